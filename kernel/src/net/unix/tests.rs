use linux_raw_sys::net::{MSG_PEEK, MSG_TRUNC};

use super::*;
use crate::host;
use crate::memory::width::Width;
use crate::net::socket::Socket;
use crate::net::unix::message::{InFlight, Message};
use crate::vfs::anonymous::anonymous_file;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, PathOps};

const OWNER: PeerCredentials = PeerCredentials { pid: 2, uid: 0, gid: 0 };

fn send_with(socket: &Unix, bytes: &[u8], to: Option<&[u8]>, files: Vec<Arc<File>>) -> Result<usize> {
    let bytes = &mut Source::kernel(bytes);
    socket.send(Outgoing { bytes, to, files, credentials: None, flags: 0, patience: Patience::NONE })
}

fn send(socket: &Unix, bytes: &[u8]) -> Result<usize> {
    send_with(socket, bytes, None, Vec::new())
}

fn receive_with(socket: &Unix, len: usize, flags: u32) -> Result<(Vec<u8>, Received)> {
    let mut buffer = vec![0; len];
    let bytes = &mut Destination::kernel(&mut buffer);
    let received = socket.receive(Incoming { bytes, flags, at_least: 1, patience: Patience::NONE })?;
    buffer.truncate(received.len);
    Ok((buffer, received))
}

fn receive(socket: &Unix, len: usize) -> Result<Vec<u8>> {
    Ok(receive_with(socket, len, 0)?.0)
}

fn with_pair(kind: Kind, test: impl FnOnce(Unix, Unix)) {
    host::process::run(Width::Bits64, |_| {
        let (a, b) = Unix::pair(kind, OWNER);
        test(a, b);
    });
}

fn abstract_name(name: &str) -> Vec<u8> {
    Name::to_sockaddr(Some(&Name::Abstract(name.as_bytes().to_vec())))
}

fn a_file() -> Arc<File> {
    anonymous_file("test", Arc::new(PathOps), abi::O_RDWR)
}

#[test]
fn a_stream_has_no_borders_and_both_directions_are_independent() {
    with_pair(Kind::Stream, |a, b| {
        assert_eq!((send(&a, b"to "), send(&a, b"b"), send(&b, b"to a")), (Ok(3), Ok(1), Ok(4)));
        assert_eq!(receive(&b, 2), Ok(b"to".to_vec()));
        assert_eq!((b.unread(), receive_with(&b, 10, MSG_PEEK).map(|(bytes, _)| bytes)), (Ok(2), Ok(b" b".to_vec())));
        assert_eq!((receive(&b, 10), receive(&b, 10)), (Ok(b" b".to_vec()), Err(Errno::EAGAIN)));
        assert_eq!(receive(&a, 10), Ok(b"to a".to_vec()));
    });
}

#[test]
fn messages_stay_apart_and_what_does_not_fit_is_lost() {
    for kind in [Kind::Datagram, Kind::SeqPacket] {
        with_pair(kind, |a, b| {
            assert_eq!((send(&a, b"one"), send(&a, b""), send(&a, b"second")), (Ok(3), Ok(0), Ok(6)));
            assert_eq!((receive(&b, 100), receive(&b, 100)), (Ok(b"one".to_vec()), Ok(vec![])));
            let (bytes, received) = receive_with(&b, 3, 0).expect("a message");
            assert_eq!((&bytes[..], received.message_len, received.flags), (&b"sec"[..], 6, MSG_TRUNC));
            assert_eq!(receive(&b, 100), Err(Errno::EAGAIN), "the rest is gone");
        });
    }
}

#[test]
fn what_was_sent_counts_until_it_is_received() {
    with_pair(Kind::Stream, |a, b| {
        let mut sent = 0;
        while let Ok(len) = send(&a, &[7; 10_000]) {
            sent += len;
            assert!(sent < 1_000_000);
        }
        assert_eq!((send(&a, b"x"), a.poll(None) & abi::POLLOUT), (Err(Errno::EAGAIN), 0));
        assert!((100_000..300_000).contains(&sent), "{sent}");
        let mut received = 0;
        while let Ok(bytes) = receive(&b, 4096) {
            received += bytes.len();
        }
        assert_eq!((received, a.unsent(), a.poll(None) & abi::POLLOUT), (sent, Ok(0), abi::POLLOUT));
    });
}

#[test]
fn a_closed_peer_is_the_end_behind_what_it_sent() {
    with_pair(Kind::Stream, |a, b| {
        assert_eq!(send(&a, b"last"), Ok(4));
        drop(a);
        let hung_up = abi::POLLHUP | abi::POLLRDHUP | abi::POLLIN;
        assert_eq!(b.poll(None) & hung_up, hung_up);
        let all = (receive(&b, 10), receive(&b, 10), send(&b, b"x"));
        assert_eq!(all, (Ok(b"last".to_vec()), Ok(vec![]), Err(Errno::EPIPE)));
    });
    with_pair(Kind::Stream, |a, b| {
        assert_eq!(send(&a, b"unread"), Ok(6));
        drop(b);
        let reset = Errno(errno::ECONNRESET as usize);
        assert_eq!((receive(&a, 10), receive(&a, 10)), (Err(reset), Ok(vec![])));
    });
}

#[test]
fn a_name_is_found_until_its_socket_is_closed() {
    host::process::run(Width::Bits64, |task| {
        let owner = || PeerCredentials::effective(&task.process);
        let name = abstract_name("found");
        let refused = Err(Errno(errno::ECONNREFUSED as usize));
        let (server, client) = (Unix::new(Kind::Stream), Unix::new(Kind::Stream));
        assert_eq!(client.connect(&name, Patience::NONE), refused);
        assert_eq!((server.bind(&name), server.bind(&name)), (Ok(()), Err(Errno::EINVAL)));
        let other = Unix::new(Kind::Stream);
        assert_eq!(other.bind(&name), Err(Errno(errno::EADDRINUSE as usize)));
        assert_eq!(client.connect(&name, Patience::NONE), refused, "it does not listen");
        assert_eq!((server.listen(0), client.connect(&name, Patience::NONE)), (Ok(()), Ok(())));
        assert_eq!(other.connect(&name, Patience::NONE), Err(Errno::EAGAIN), "one waits to be accepted");
        assert_eq!(send(&client, b"early"), Ok(5));
        let end = server.accept(Patience::NONE).expect("a connection");
        assert_eq!((end.name(), client.peer_name(), end.peer_name()), (name.clone(), Ok(name.clone()), Ok(vec![1, 0])));
        assert_eq!((end.peer_credentials(), client.peer_credentials()), (owner(), owner()));
        assert_eq!(other.connect(&name, Patience::NONE), Ok(()));
        drop(server);
        assert_eq!(receive(&other, 1), Err(Errno(errno::ECONNRESET as usize)), "it was not accepted");
        assert_eq!(Unix::new(Kind::Stream).connect(&name, Patience::NONE), refused);
        assert_eq!(Unix::new(Kind::Stream).bind(&name), Ok(()));
    });
}

#[test]
fn a_datagram_socket_takes_so_many_from_strangers() {
    host::process::run(Width::Bits64, |_| {
        let name = abstract_name("strangers");
        let (receiver, sender) = (Unix::new(Kind::Datagram), Unix::new(Kind::Datagram));
        receiver.bind(&name).expect("a name");
        sender.bind(&abstract_name("sender")).expect("a name");
        let put = || send_with(&sender, b"x", Some(&name), Vec::new());
        assert_eq!((0..1000).take_while(|_| put().is_ok()).count(), 11);
        assert_eq!(sender.connect(&name, Patience::NONE), Ok(()));
        assert_eq!(sender.poll(None) & abi::POLLOUT, 0);
        let edges = sender.edges();
        let (_, received) = receive_with(&receiver, 1, 0).expect("a message");
        assert_eq!(received.from, abstract_name("sender"));
        assert!(sender.edges() > edges, "it is told of the room");
        assert_eq!((sender.poll(None) & abi::POLLOUT, put()), (abi::POLLOUT, Ok(1)));
        drop(receiver);
        let refused = Err(Errno(errno::ECONNREFUSED as usize));
        assert_eq!((send(&sender, b"x"), send(&sender, b"x")), (refused, Err(Errno(errno::ENOTCONN as usize))));
    });
}

#[test]
fn files_arrive_once_with_their_bytes() {
    with_pair(Kind::Stream, |a, b| {
        let file = a_file();
        let flight = |count: usize| InFlight::new(vec![file.clone(); count], 6, 100).expect("a few");
        put_message(&a, &b, b"before", flight(0));
        put_message(&a, &b, b"with", flight(2));
        put_message(&a, &b, b"behind", flight(0));
        let (bytes, received) = receive_with(&b, 100, MSG_PEEK).expect("bytes");
        assert_eq!((&bytes[..], received.files.len()), (&b"beforewith"[..], 2));
        drop(received);
        let (bytes, received) = receive_with(&b, 8, 0).expect("bytes");
        assert_eq!((&bytes[..], received.files.len()), (&b"beforewi"[..], 2));
        assert!(Arc::ptr_eq(&received.files[0], &file));
        drop(received);
        let (bytes, received) = receive_with(&b, 100, 0).expect("bytes");
        assert_eq!((&bytes[..], received.files.len()), (&b"thbehind"[..], 0));
        assert_eq!(Arc::strong_count(&file), 1);
    });
}

#[test]
fn a_long_chain_of_sockets_in_flight_is_closed_without_a_deep_stack() {
    host::process::run(Width::Bits64, |_| {
        let last = a_file();
        let mut file = last.clone();
        // Each is in a message that waits at the next. A test's thread has not the stack for so many.
        for _ in 0..50_000 {
            let (a, b) = Unix::pair(Kind::Stream, OWNER);
            put_message(&a, &b, b"x", InFlight::new(vec![file], 7, u64::MAX).expect("no limit"));
            file = Socket::new(Box::new(b)).into_file(0);
        }
        drop(file);
        assert_eq!(Arc::strong_count(&last), 1);
    });
}

fn put_message(from: &Unix, to: &Unix, bytes: &[u8], files: InFlight) {
    let charge = from.0.outbox.charge(bytes.len()).expect("room");
    let bytes = Arc::new(bytes.to_vec());
    let message = Message { bytes, start: 0, from: None, credentials: None, files, _charge: charge };
    to.0.state.lock().messages.push_back(message);
}

#[test]
fn a_user_has_so_many_files_in_flight() {
    let (file, user) = (a_file(), 8);
    let two = InFlight::new(vec![file.clone(), file.clone()], user, 3).expect("two of three");
    let too_many = Some(Errno(errno::ETOOMANYREFS as usize));
    assert_eq!(InFlight::new(vec![file.clone(), file.clone()], user, 3).err(), too_many);
    assert!(InFlight::new(vec![file.clone(), file.clone()], user + 1, 3).is_ok());
    drop(two);
    assert!(InFlight::new(vec![file.clone(); 3], user, 3).is_ok());
    assert_eq!(Arc::strong_count(&file), 1);
}
