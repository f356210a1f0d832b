//! Control messages: what travels beside the bytes of a message, in the layout of cmsg(3).
//!
//! Owns the layout alone; what a message means is known where it is asked for.

use std::ptr;

/// Where the data of a control message begin.
// SAFETY: the macro of C is arithmetic on its argument.
const DATA_AT: usize = unsafe { libc::CMSG_LEN(0) } as usize;

/// Memory for control messages, at an address that every system takes their headers at.
#[repr(C, align(8))]
pub(super) struct Control<const SIZE: usize>([u8; SIZE]);

impl<const SIZE: usize> Control<SIZE> {
    const ALIGNED: () = assert!(align_of::<Self>() >= align_of::<libc::cmsghdr>());

    pub(super) fn new() -> Self {
        let () = Self::ALIGNED;
        Self([0; SIZE])
    }

    /// For the system to fill, or to read once filled: the address for a message header.
    pub(super) fn attach(&mut self, header: &mut libc::msghdr, length: usize) {
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = length.min(SIZE) as _;
    }

    /// The messages in what the system says that it has filled.
    pub(super) fn messages(&self, header: &libc::msghdr) -> Messages<'_> {
        #[allow(clippy::unnecessary_cast, reason = "its type differs between systems")]
        let filled = (header.msg_controllen as usize).min(SIZE);
        Messages(&self.0[..filled])
    }

    /// Puts one message at the beginning, its data being pieces of equal size; answers the
    /// bytes it takes. `None`: there is no room.
    pub(super) fn put<const PIECE: usize>(
        &mut self,
        (level, kind): (libc::c_int, libc::c_int),
        data: impl ExactSizeIterator<Item = [u8; PIECE]>,
    ) -> Option<usize> {
        let length = data.len() * PIECE;
        let room = self.0.get_mut(..space(length))?;
        // SAFETY: integers only, for which zero is a value.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = (DATA_AT + length) as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        // SAFETY: `space` of anything has room for a header, whose alignment `Self` has.
        unsafe { room.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
        for (place, piece) in room[DATA_AT..].chunks_exact_mut(PIECE).zip(data) {
            place.copy_from_slice(&piece);
        }
        Some(space(length))
    }
}

/// Bytes that a message with so many bytes of data takes, up to where the next one begins.
pub(super) const fn space(length: usize) -> usize {
    // SAFETY: the macro of C is arithmetic on its argument.
    unsafe { libc::CMSG_SPACE(length as libc::c_uint) as usize }
}

/// One control message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ControlMessage<'a> {
    pub(super) level: libc::c_int,
    pub(super) kind: libc::c_int,
    /// As much of it as there is: a truncated message may say that it is longer.
    pub(super) data: &'a [u8],
}

/// The messages one after the other, as far as they are complete with their header.
pub(super) struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = ControlMessage<'a>;

    fn next(&mut self) -> Option<ControlMessage<'a>> {
        if self.0.len() < DATA_AT {
            return None;
        }
        // SAFETY: `DATA_AT` bytes are there, which are no less than a header, and a header
        // consists of integers, for which every pattern of bits is a value.
        let header = unsafe { ptr::read_unaligned(self.0.as_ptr().cast::<libc::cmsghdr>()) };
        #[allow(clippy::unnecessary_cast, reason = "its type differs between systems")]
        let length = (header.cmsg_len as usize).checked_sub(DATA_AT)?;
        let rest = &self.0[DATA_AT..];
        let data = &rest[..length.min(rest.len())];
        self.0 = self.0.get(space(data.len())..).unwrap_or_default();
        Some(ControlMessage {
            level: header.cmsg_level,
            kind: header.cmsg_type,
            data,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn header(length: usize) -> libc::msghdr {
        // SAFETY: integers and pointers, for which zero is a value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_controllen = length as _;
        header
    }

    #[test]
    fn a_message_is_read_as_it_was_put() {
        let mut control = Control::<64>::new();
        let taken = control.put((1, 2), [*b"abc", *b"def"].into_iter());
        assert_eq!(taken, Some(space(6)));
        let mut messages = control.messages(&header(space(6)));
        let message = ControlMessage {
            level: 1,
            kind: 2,
            data: b"abcdef",
        };
        assert_eq!(messages.next(), Some(message));
        assert_eq!(messages.next(), None);
    }

    #[test]
    fn a_message_longer_than_the_buffer_is_read_as_far_as_it_goes() {
        let mut control = Control::<64>::new();
        control.put((1, 2), [*b"abcdefgh"].into_iter());
        let data = |length| {
            let mut messages = control.messages(&header(length));
            messages.next().map(|message| message.data.len())
        };
        assert_eq!(data(DATA_AT + 8), Some(8));
        assert_eq!(data(DATA_AT + 3), Some(3));
        assert_eq!(data(DATA_AT), Some(0));
        assert_eq!(data(DATA_AT - 1), None);
        assert_eq!(data(0), None);
    }

    #[test]
    fn a_header_that_claims_nonsense_ends_the_list() {
        let control = Control::<64>::new();
        assert_eq!(control.messages(&header(64)).count(), 0);
        // More than there is, as a system may claim.
        assert_eq!(control.messages(&header(4096)).count(), 0);
    }

    #[test]
    fn what_does_not_fit_is_not_put() {
        let mut control = Control::<32>::new();
        assert_eq!(control.put((1, 2), [[0; 64]].into_iter()), None);
    }
}
