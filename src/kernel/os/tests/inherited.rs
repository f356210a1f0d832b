//! Descriptors from a service manager.

use crate::kernel::os::inherited::*;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::process::Command;

fn some(text: &str) -> Option<OsString> {
    Some(text.into())
}

#[test]
fn an_offer_is_ours_only_with_our_number() {
    assert_eq!(offered(None, None, 7).unwrap(), 0);
    assert_eq!(offered(some("7"), None, 7).unwrap(), 0);
    assert_eq!(offered(None, some("2"), 7).unwrap(), 0);
    assert_eq!(offered(some("8"), some("2"), 7).unwrap(), 0);
    assert_eq!(offered(some("8"), some("nonsense"), 7).unwrap(), 0);
    assert_eq!(offered(some("7"), some("2"), 7).unwrap(), 2);
    assert_eq!(offered(some("7"), some("0"), 7).unwrap(), 0);
}

#[test]
fn an_offer_that_makes_no_sense_is_an_error_with_a_sentence() {
    for (pid, count, variable) in [
        ("", "1", "LISTEN_PID"),
        ("me", "1", "LISTEN_PID"),
        ("7", "", "LISTEN_FDS"),
        ("7", "one", "LISTEN_FDS"),
        ("7", "-1", "LISTEN_FDS"),
        ("7", "2147483646", "LISTEN_FDS"),
        ("7", "99999999999", "LISTEN_FDS"),
    ] {
        let error = offered(some(pid), some(count), 7).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(
            text.starts_with(variable) && text.contains(" is "),
            "{text}"
        );
    }
}

#[test]
fn there_is_a_name_for_each_descriptor_or_for_none() {
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(names(None, 2).unwrap(), [None, None]);
    assert_eq!(names(some("web:"), 2).unwrap(), [named("web"), named("")]);
    for given in ["web", "a:b:c"] {
        assert!(names(some(given), 2).is_err(), "{given}");
    }
}

#[test]
fn a_descriptor_that_is_not_open_is_an_error() {
    let error = close_on_exec(i32::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// Set for the child alone, which finds out what was inherited and says so by failing or not.
const CHILD: &str = "WINDLASS_TEST_INHERITS";

/// The child's part of the tests below; on its own it has nothing to do.
#[test]
fn inheriting_child() {
    let Some(expected) = std::env::var_os(CHILD) else {
        return;
    };
    let expected = expected.into_string().unwrap();
    let outcome = inherited();
    if expected == "an error" {
        let text = outcome.unwrap_err().to_string();
        assert!(
            text.starts_with("LISTEN_FDS promises descriptor "),
            "{text}"
        );
        assert!(inherited().is_err());
        return;
    }
    let found = outcome.unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|(name, fd)| {
            // SAFETY: the command only reads flags.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags, libc::FD_CLOEXEC);
            format!("{}={}", name.as_deref().unwrap_or("-"), fd.as_raw_fd())
        })
        .collect();
    assert_eq!(shown.join(","), expected);
    assert!(
        inherited().unwrap().is_empty(),
        "a descriptor has one owner"
    );
}

/// Runs the child with what a shell makes of `offer`: it knows its number, and keeps it.
fn child(offer: &str, expected: &str) {
    let script = format!("{offer} exec \"$0\" --exact \"$1\" --nocapture");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg("kernel::os::tests::inherited::inheriting_child")
        .env(CHILD, expected)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{offer}: {text}");
    assert!(text.contains("1 passed"), "{offer}: {text}");
}

#[test]
fn descriptors_are_inherited_once() {
    child(
        "exec 3</dev/null 4</dev/null; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin",
        "web=3,admin=4",
    );
    child("exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1", "-=3");
    child("exec 3</dev/null; LISTEN_PID=1 LISTEN_FDS=1", "");
    child("LISTEN_PID=", "");
}

#[test]
fn a_promise_that_was_not_kept_is_an_error() {
    child("LISTEN_PID=$$ LISTEN_FDS=9999999", "an error");
}
