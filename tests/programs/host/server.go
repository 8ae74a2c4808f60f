// A server on a local socket and its clients, each in a goroutine: docs/programs.md, go.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"sync"
)

// Answers each line with the line in brackets.
func serve(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			lines := bufio.NewScanner(connection)
			for lines.Scan() {
				fmt.Fprintf(connection, "<%s>\n", lines.Text())
			}
		}()
	}
}

// Sends a number, and gives the one that comes back.
func ask(address string, number int) (answer int, err error) {
	connection, err := net.Dial("unix", address)
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	fmt.Fprintf(connection, "%d\n", number)
	_, err = fmt.Fscanf(connection, "<%d>\n", &answer)
	return answer, err
}

func main() {
	directory, err := os.MkdirTemp("", "server")
	if err != nil {
		panic(err)
	}
	address := directory + "/socket"
	listener, err := net.Listen("unix", address)
	if err != nil {
		panic(err)
	}
	go serve(listener)
	var clients sync.WaitGroup
	var lock sync.Mutex
	sum := 0
	for number := 1; number <= 20; number++ {
		clients.Add(1)
		go func(number int) {
			defer clients.Done()
			answer, err := ask(address, number)
			if err != nil {
				panic(err)
			}
			lock.Lock()
			sum += answer
			lock.Unlock()
		}(number)
	}
	clients.Wait()
	fmt.Println(sum)
	os.RemoveAll(directory)
	os.Exit(3)
}
