//! Names of local sockets: `struct sockaddr_un`.

use alloc::vec::Vec;

use linux_raw_sys::net;

use crate::errno::{Errno, Result};

/// Bytes of a `struct sockaddr_un`, and of its family.
const LEN: usize = 110;
const FAMILY_LEN: usize = 2;

/// What a socket is bound to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Name {
    /// A path in the file system, as it was given.
    Path(Vec<u8>),
    /// A name that is none, behind a first byte of zero.
    Abstract(Vec<u8>),
}

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The inode that a path leads to: device and number.
    Inode(u64, u64),
    /// An abstract name, of which each type of socket has its own.
    Abstract(u32, Vec<u8>),
}

impl Name {
    /// The name in a `sockaddr`. None: there is nothing behind the family. EINVAL for what is none.
    pub fn from_sockaddr(bytes: &[u8]) -> Result<Option<Name>> {
        let (family, name) = bytes.split_at_checked(FAMILY_LEN).ok_or(Errno::EINVAL)?;
        if bytes.len() > LEN || family != (net::AF_UNIX as u16).to_ne_bytes() {
            return Err(Errno::EINVAL);
        }
        Ok(match name {
            [] => None,
            [0, name @ ..] => Some(Name::Abstract(name.to_vec())),
            path => {
                let len = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
                Some(Name::Path(path[..len].to_vec()))
            }
        })
    }

    /// The `sockaddr` of a socket with this name, or with none.
    pub fn to_sockaddr(name: Option<&Name>) -> Vec<u8> {
        let mut bytes = (net::AF_UNIX as u16).to_ne_bytes().to_vec();
        match name {
            Some(Name::Path(path)) => {
                bytes.extend_from_slice(path);
                bytes.push(0);
            }
            Some(Name::Abstract(name)) => {
                bytes.push(0);
                bytes.extend_from_slice(name);
            }
            None => (),
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(bytes: &[u8]) -> Result<Option<Name>> {
        Name::from_sockaddr(&[&[net::AF_UNIX as u8, 0], bytes].concat())
    }

    #[test]
    fn a_name_comes_back_as_it_was_given() {
        for name in [&b"\0abstract"[..], b"\0", b"\0with\0zeros\0", b"/path\0"] {
            let bytes = [&[net::AF_UNIX as u8, 0], name].concat();
            let name = Name::from_sockaddr(&bytes).expect("a name");
            assert_eq!(Name::to_sockaddr(name.as_ref()), bytes);
        }
        assert_eq!(parsed(b"/path"), parsed(b"/path\0 and more"), "a path ends at a zero, or at the end");
        assert_eq!((parsed(b""), Name::to_sockaddr(None).len()), (Ok(None), FAMILY_LEN));
    }

    #[test]
    fn what_is_too_long_or_of_another_family_is_no_name() {
        assert!(parsed(&[b'x'; LEN - FAMILY_LEN]).is_ok());
        assert_eq!(parsed(&[b'x'; LEN - FAMILY_LEN + 1]), Err(Errno::EINVAL));
        for bytes in [&b""[..], b"\x01", b"\x02\x00x"] {
            assert_eq!(Name::from_sockaddr(bytes), Err(Errno::EINVAL));
        }
    }
}
