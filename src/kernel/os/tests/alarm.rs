//! Waits that the system's timer ends.

use super::*;

/// Such waits, and how late a loaded machine may end them.
const ALARMED: Duration = config::ALARM_FROM;
const LATE: Duration = Duration::from_secs(5);

#[track_caller]
fn assert_waits(kernel: &mut OsKernel, timeout: Duration) {
    let waker = kernel.waker();
    // A wait that nothing else ends is ended in the end.
    let (over, is_over) = mpsc::channel::<()>();
    let guard = thread::spawn(move || {
        if is_over.recv_timeout(timeout + LATE) == Err(mpsc::RecvTimeoutError::Timeout) {
            waker.wake();
        }
    });
    let start = Instant::now();
    let events = polled(kernel, timeout);
    let took = start.elapsed();
    drop(over);
    guard.join().unwrap();
    assert_eq!(events, [], "after {took:?} of {timeout:?}");
    assert!(took >= timeout, "{took:?} of {timeout:?}");
    assert!(took < timeout + LATE, "{took:?} of {timeout:?}");
}

/// A wait that ends at once, because somebody wakes it.
fn is_woken(kernel: &mut OsKernel, timeout: Duration) {
    kernel.waker().wake();
    let events = polled(kernel, timeout);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].token, Token::WAKE);
}

#[test]
fn a_wait_that_the_alarm_ends_is_as_long_as_was_asked_and_brings_nothing() {
    let mut kernel = kernel();
    for longer in [0, 1, 30].map(Duration::from_millis) {
        assert_waits(&mut kernel, ALARMED + longer);
    }
}

#[test]
fn an_alarm_for_an_earlier_wait_does_not_end_a_later_one() {
    let mut kernel = kernel();
    is_woken(&mut kernel, ALARMED);
    assert_waits(&mut kernel, 2 * ALARMED);
    // It went off in the middle of that, and is set for the next.
    assert_waits(&mut kernel, ALARMED);
}

#[test]
fn a_wait_that_ends_before_the_alarm_ends_in_time() {
    let mut kernel = kernel();
    is_woken(&mut kernel, PATIENCE);
    assert_waits(&mut kernel, ALARMED);
    assert_waits(&mut kernel, Duration::from_millis(1));
}

#[test]
fn an_alarm_that_goes_off_between_two_waits_ends_neither() {
    let mut kernel = kernel();
    is_woken(&mut kernel, ALARMED);
    // One that relies on nothing, and sleeps until the alarm has gone off.
    assert_eq!(kernel.buffer.wait(&mut kernel.poll, NEVER).ok(), Some(()));
    assert!(kernel.buffer.is_alarm());
    assert_waits(&mut kernel, ALARMED);
}

#[test]
fn an_event_ends_a_wait_that_has_no_end_of_its_own() {
    let mut kernel = kernel();
    let waker = kernel.waker();
    let waking = thread::spawn(move || waker.wake());
    let start = Instant::now();
    assert_eq!(polled(&mut kernel, PATIENCE).len(), 1);
    assert!(start.elapsed() < PATIENCE);
    waking.join().unwrap();
}

#[test]
fn without_an_alarm_a_wait_has_an_end_of_its_own() {
    let mut kernel = kernel();
    kernel.alarm = None;
    is_woken(&mut kernel, PATIENCE);
    assert_waits(&mut kernel, ALARMED);
}
