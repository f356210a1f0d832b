//! The `resp` example in a simulated world: its decoder at every split, every command's
//! words, keys that end on a clock that costs no time, and clients that do not read.
//!
//! `tests/gallery_servers.rs` has the same program on real sockets, `tests/redis.sh` the
//! programs that it was made for.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "../examples/resp/main.rs"]
#[allow(dead_code, reason = "its command line is not tested here")]
mod resp;
mod util;

use std::net::SocketAddr;
use std::time::Duration;

use resp::store::Store;
use resp::wire;
use util::{KIB, MIB, Rng};
use windlass::Input;
use windlass::sim::{Client, World};

const SECOND: Duration = Duration::from_secs(1);

// The decoder.

/// Commands as arrays and inline, with empty ones, binary ones and words of no length.
const STREAM: &[u8] = b"*1\r\n$4\r\nPING\r\nset a  1\r\n\r\n*0\r\n\
    *3\r\n$3\r\nSET\r\n$0\r\n\r\n$7\r\n\r\n*1\r\n$\r\nget a\n";

fn words() -> Vec<Vec<&'static [u8]>> {
    vec![
        vec![b"PING"],
        vec![b"set", b"a", b"1"],
        vec![],
        vec![],
        vec![b"SET", b"", b"\r\n*1\r\n$"],
        vec![b"get", b"a"],
    ]
}

#[test]
fn requests_are_found_at_every_split() {
    for split in 0..=STREAM.len() {
        let mut found = Vec::new();
        let begun = decode(&STREAM[..split], &mut found);
        decode(&STREAM[begun..], &mut found);
        assert_eq!(found, requests(), "split at {split}");
    }
}

#[test]
fn requests_are_found_in_single_bytes() {
    let (mut found, mut start) = (Vec::new(), 0);
    for end in 1..=STREAM.len() {
        start += decode(&STREAM[start..end], &mut found);
    }
    assert_eq!((found, start), (requests(), STREAM.len()));
}

#[test]
fn words_are_not_copied() {
    let bytes = b"*2\r\n$3\r\nGET\r\n$4\r\nship\r\n";
    let words = wire::request(&mut Input::new(bytes)).unwrap();
    assert_eq!(words[1].as_ptr(), bytes[17..].as_ptr());
}

#[test]
fn what_is_no_request_is_told_at_every_split() {
    let (length, end, line) = (
        "expected a length that is not too large",
        "expected the end of a word",
        "too long a line",
    );
    let cases: [(&[u8], &str); 12] = [
        (b"*1\r\nPING\r\n", length),
        (b"*1\r\n\r\n", length),
        (b"*x\r\n", length),
        (b"*-1\r\n", length),
        (b"*4097\r\n", length),
        (b"*99999999999999999999\r\n", length),
        (b"*1\r\n$-1\r\n", length),
        (b"*1\r\n$x\r\n", length),
        (b"*1\r\n$524288\r\n", length),
        (b"*1\r\n$1\r\nabc", end),
        (b"*11111111111111111111111111111111", line),
        (b"*1\r\n$11111111111111111111111111111111", line),
    ];
    for (bytes, why) in cases {
        for split in 0..=bytes.len() {
            let mut found = Vec::new();
            let begun = decode(&bytes[..split], &mut found);
            if found.is_empty() {
                decode(&bytes[begun..], &mut found);
            }
            assert_eq!(found, [Err(why)], "{split} of {bytes:?}");
        }
    }
}

#[test]
fn an_inline_request_without_an_end_is_refused_when_it_is_too_long() {
    let mut found = Vec::new();
    decode(&[b'x'; 64 * KIB], &mut found);
    assert_eq!(found, []);
    decode(&[b'x'; 64 * KIB + 1], &mut found);
    assert_eq!(found, [Err("too long a line")]);
}

type Found = Result<Vec<Vec<u8>>, &'static str>;

fn requests() -> Vec<Found> {
    let owned = |words: Vec<&[u8]>| words.into_iter().map(<[u8]>::to_vec).collect();
    words().into_iter().map(owned).map(Ok).collect()
}

/// Decodes what is whole, up to a mistake, and answers how many bytes that was.
fn decode(bytes: &[u8], found: &mut Vec<Found>) -> usize {
    let mut input = Input::new(bytes);
    loop {
        match wire::request(&mut input) {
            Ok(words) => found.push(Ok(words.into_iter().map(<[u8]>::to_vec).collect())),
            Err(None) => return input.consumed(),
            Err(Some(why)) => {
                found.push(Err(why));
                return input.consumed();
            }
        }
    }
}

// What is answered.

#[test]
fn each_command_is_answered_as_redis_would() {
    let mut redis = Redis::new(MIB);
    for (asked, answer) in [
        ("PING", "+PONG\r\n"),
        ("ping hello", "$5\r\nhello\r\n"),
        ("ECHO hello", "$5\r\nhello\r\n"),
        ("GET ship", "$-1\r\n"),
        ("SET ship windlass", "+OK\r\n"),
        ("GET ship", "$8\r\nwindlass\r\n"),
        ("set ship capstan", "+OK\r\n"),
        ("GET ship", "$7\r\ncapstan\r\n"),
        ("INCR count", ":1\r\n"),
        ("INCR count", ":2\r\n"),
        ("EXPIRE ship 10", ":1\r\n"),
        ("EXPIRE boat 10", ":0\r\n"),
        ("EXPIRE ship -1", ":1\r\n"),
        ("GET ship", "$-1\r\n"),
        ("DEL ship count count boat", ":1\r\n"),
        ("COMMAND DOCS", "*0\r\n"),
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        (
            "config get maxmemory",
            "*2\r\n$9\r\nmaxmemory\r\n$0\r\n\r\n",
        ),
        ("INFO", "$27\r\nused_memory:0\r\ndb0:keys=0\r\n\r\n"),
    ] {
        assert_eq!(redis.ask(asked), answer, "{asked}");
    }
}

#[test]
fn mistakes_are_told_and_the_connection_goes_on() {
    let mut redis = Redis::new(MIB);
    redis.ask("SET word abc");
    redis.ask("SET most 9223372036854775807");
    let unknown = "-ERR unknown command, or wrong number of arguments, for";
    for (asked, answer) in [
        ("GET", format!("{unknown} 'GET'\r\n")),
        ("set a", format!("{unknown} 'set'\r\n")),
        ("DEL", format!("{unknown} 'DEL'\r\n")),
        ("hoist it", format!("{unknown} 'hoist'\r\n")),
        ("INCR word", NO_INTEGER.to_owned()),
        (
            "INCR most",
            "-ERR increment or decrement would overflow\r\n".to_owned(),
        ),
        ("EXPIRE word soon", NO_INTEGER.to_owned()),
        (
            "EXPIRE word 9223372036854775807",
            "-ERR invalid expire time\r\n".to_owned(),
        ),
        ("PING", "+PONG\r\n".to_owned()),
    ] {
        assert_eq!(redis.ask(asked), answer, "{asked}");
    }
}

const NO_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";

#[test]
fn what_is_quoted_in_an_error_stays_on_its_line() {
    let mut redis = Redis::new(MIB);
    let answer = redis.send(b"*1\r\n$100006\r\nx\r\n+OK");
    assert_eq!(answer, "");
    let answer = redis.send(&[&[b'y'; 100_000][..], b"\r\n"].concat());
    assert!(answer.ends_with("y'\r\n"));
    assert!(answer.contains(" 'x\\r\\n+OKyyy"), "{answer}");
    assert!(answer.len() < 200, "{} bytes", answer.len());
    assert_eq!(answer.matches("\r\n").count(), 1);
}

#[test]
fn a_protocol_error_is_told_behind_earlier_answers_and_ends_the_connection() {
    let mut redis = Redis::new(MIB);
    let answer = redis.send(b"PING\r\n*1\r\n+OK\r\nPING\r\n");
    assert_eq!(
        answer,
        "+PONG\r\n-ERR Protocol error: expected a length that is not too large\r\n"
    );
    assert!(redis.world.saw_eof(redis.client));
}

#[test]
fn a_pipeline_is_answered_in_order_however_it_is_cut() {
    let mut rng = Rng::new(7);
    let asked: String = (0..500)
        .map(|n| format!("SET k{n} {n}\r\nGET k{n}\r\n"))
        .collect();
    let answers: String = (0..500)
        .map(|n| format!("+OK\r\n${}\r\n{n}\r\n", n.to_string().len()))
        .collect();
    for _ in 0..20 {
        let mut redis = Redis::new(MIB);
        let (mut rest, mut said) = (asked.as_bytes(), String::new());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rng.range(1, 200).min(rest.len()));
            said += &redis.send(now);
            rest = later;
        }
        assert_eq!(said, answers);
    }
}

#[test]
fn half_closed_clients_get_every_answer() {
    let mut redis = Redis::new(MIB);
    redis.world.send(redis.client, b"PING\r\nPING\r\nPI");
    redis.world.finish(redis.client);
    assert_eq!(redis.said(), "+PONG\r\n+PONG\r\n");
    assert!(redis.world.saw_eof(redis.client));
}

// Time.

#[test]
fn a_key_ends_at_its_time_and_not_before() {
    let mut redis = Redis::new(MIB);
    redis.set("ship", 10);
    redis.world.advance(10 * SECOND - Duration::from_millis(1));
    assert_eq!(redis.ask("GET ship"), "$1\r\n1\r\n");
    redis.world.advance(Duration::from_millis(1));
    assert_eq!(redis.ask("GET ship"), "$-1\r\n");
}

#[test]
fn a_key_that_has_ended_is_gone_before_the_timer_has_buried_it() {
    let mut redis = Redis::new(MIB);
    // One read, so that no turn of the loop lies between the commands.
    let asked = b"SET a 1\r\nEXPIRE a 0\r\nGET a\r\nEXPIRE a 5\r\nDEL a\r\nINCR a\r\n";
    let said = redis.send(asked);
    assert_eq!(said, "+OK\r\n:1\r\n$-1\r\n:0\r\n:0\r\n:1\r\n");
    redis.world.advance(10 * SECOND);
    assert_eq!(redis.ask("GET a"), "$1\r\n1\r\n", "the new one stays");
}

#[test]
fn keys_that_nobody_asks_for_are_buried_at_their_time() {
    let mut redis = Redis::new(4 * MIB);
    for n in 0..1000 {
        redis.set(&format!("key{n}"), 1 + n % 10);
    }
    redis.ask("SET stays forever");
    let before = redis.world.handler().held;
    redis.world.advance(SECOND - Duration::from_millis(1));
    assert_eq!(redis.world.handler().entries.len(), 1001);
    redis.world.advance(10 * SECOND);
    let store = redis.world.handler();
    assert_eq!(store.entries.len(), 1);
    assert!(store.held < before / 500, "{} of {before}", store.held);
}

#[test]
fn one_end_of_many_keys_is_no_long_turn() {
    let mut redis = Redis::new(16 * MIB);
    for n in 0..25_000 {
        redis.world.send(
            redis.client,
            format!("SET key{n} v\r\nEXPIRE key{n} 5\r\n").as_bytes(),
        );
    }
    redis.said();
    let turns = redis.world.stats().timers;
    redis.world.advance(5 * SECOND);
    assert_eq!(redis.world.handler().entries.len(), 0);
    // Ten thousand at a time.
    assert_eq!(redis.world.stats().timers - turns, 3);
}

#[test]
fn the_latest_word_about_an_end_counts() {
    let mut redis = Redis::new(MIB);
    redis.set("a", 5);
    redis.ask("EXPIRE a 20");
    redis.set("b", 5);
    redis.ask("SET b 2");
    redis.set("c", 20);
    redis.ask("EXPIRE c 5");
    redis.set("d", 5);
    assert_eq!(redis.ask("INCR d"), ":2\r\n", "and it keeps its end");
    redis.world.advance(5 * SECOND);
    assert_eq!(redis.keys(), ["a", "b"]);
    redis.world.advance(15 * SECOND);
    assert_eq!(redis.keys(), ["b"]);
}

// Memory.

#[test]
fn what_does_not_fit_is_refused_until_there_is_room() {
    let mut redis = Redis::new(MIB);
    let full = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    let value = "x".repeat(100 * KIB);
    let taken = (0..20)
        .filter(|n| redis.ask(&format!("SET key{n} {value}")) == "+OK\r\n")
        .count();
    assert_eq!(taken, 10);
    assert_eq!(redis.ask(&format!("SET another {value}")), full);
    assert_eq!(
        redis.ask(&format!("SET key0 {value}")),
        "+OK\r\n",
        "a swap fits"
    );
    assert!(redis.world.handler().held <= MIB);
    let key = "k".repeat(60 * KIB);
    assert_eq!(redis.ask(&format!("INCR {key}")), full);
    assert_eq!(redis.ask("DEL key1"), ":1\r\n");
    assert_eq!(redis.ask(&format!("SET another {value}")), "+OK\r\n");
    for key in redis.keys() {
        assert_eq!(redis.ask(&format!("DEL {key}")), ":1\r\n");
    }
    assert_eq!(redis.world.handler().held, 0);
}

#[test]
fn a_client_that_does_not_read_costs_little_and_misses_nothing() {
    const ASKED: usize = 2000;
    let mut redis = Redis::new(MIB);
    redis.ask(&format!("SET big {}", "x".repeat(50 * KIB)));
    let length = redis.ask("GET big").len();
    let (world, client) = (&mut redis.world, redis.client);
    world.stop_reading(client);
    world.send(client, &b"GET big\r\n".repeat(ASKED));
    world.run();
    // The high mark, one answer, and the requests themselves.
    let buffered = world.stats().buffered;
    assert!(buffered < 512 * KIB as u64, "{buffered} bytes buffered");
    world.resume_reading(client);
    world.run();
    assert_eq!(world.received(client).len(), ASKED * length);
}

#[test]
fn a_request_of_the_most_bytes_is_taken_also_by_a_client_that_reads_late() {
    let mut redis = Redis::new(MIB);
    redis.ask(&format!("SET big {}", "x".repeat(60 * KIB)));
    let (world, client) = (&mut redis.world, redis.client);
    world.stop_reading(client);
    let value = "v".repeat(512 * KIB - 64);
    let long = format!(
        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{value}\r\n",
        value.len()
    );
    world.send(client, &b"GET big\r\n".repeat(200));
    world.send(client, long.as_bytes());
    world.run();
    world.resume_reading(client);
    assert!(redis.said().ends_with("+OK\r\n"));
    assert_eq!(redis.keys(), ["a", "big"]);
}

/// The example with one client.
struct Redis {
    world: World<Store>,
    client: Client,
}

impl Redis {
    fn new(memory: usize) -> Self {
        let mut world = World::new(1, Store::new(memory));
        let addr: SocketAddr = world.listen("127.0.0.1:6379");
        let client = world.connect(addr);
        Self { world, client }
    }

    fn ask(&mut self, inline: &str) -> String {
        // Inline requests have their limit; this form has not.
        let words: Vec<&str> = inline.split(' ').collect();
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.send(request.as_bytes())
    }

    /// A key that ends after so many seconds.
    fn set(&mut self, key: &str, seconds: u64) {
        self.ask(&format!("SET {key} 1"));
        assert_eq!(self.ask(&format!("EXPIRE {key} {seconds}")), ":1\r\n");
    }

    /// What is still held.
    fn keys(&self) -> Vec<String> {
        let keys = self.world.handler().entries.keys();
        let mut keys: Vec<_> = keys.map(|key| key.escape_ascii().to_string()).collect();
        keys.sort();
        keys
    }

    fn send(&mut self, bytes: &[u8]) -> String {
        self.world.send(self.client, bytes);
        self.said()
    }

    fn said(&mut self) -> String {
        self.world.run();
        String::from_utf8(self.world.received(self.client)).unwrap()
    }
}
