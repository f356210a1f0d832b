//! What the documents say is so: the limits in the README's table, the files that are
//! named, the links.

#![allow(
    clippy::unwrap_used,
    reason = "a document that cannot be read has failed, as it should"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use windlass::Config;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document, with its path from the root.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CONTRIBUTING.md")];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        paths.push(Path::new("docs").join(entry.unwrap().file_name()));
    }
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(root().join(&path)).ok()?;
            Some((path, text))
        })
        .collect()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The cells of the rows whose first cell is a name in backquotes.
fn named_rows(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.strip_suffix('`')?, cells.next()?))
        })
        .collect()
}

/// What stands in single backquotes, outside of code blocks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2))
}

fn bytes(n: usize) -> String {
    [(1024 * MIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")]
        .into_iter()
        .find(|(unit, _)| n >= *unit && n.is_multiple_of(*unit))
        .map_or_else(
            || n.to_string(),
            |(unit, name)| format!("{} {name}", n / unit),
        )
}

fn time(limit: Duration) -> String {
    match limit.as_millis() {
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

/// The default of a field, as the README writes it.
fn default_of(field: &str) -> Option<String> {
    let config = Config::default();
    Some(match field {
        "idle_timeout" => time(config.idle_timeout),
        "write_stall_timeout" => time(config.write_stall_timeout),
        "linger" => time(config.linger),
        "handshake_timeout" => time(config.handshake_timeout),
        "handshake_budget" => config.handshake_budget.to_string(),
        "dial_timeout" => time(config.dial_timeout),
        "attempt_delay" => time(config.attempt_delay),
        "limits.low" => bytes(config.limits.low),
        "limits.high" => bytes(config.limits.high),
        "limits.limit" => bytes(config.limits.limit),
        "limits.input" => bytes(config.limits.input),
        "memory_limit" => bytes(config.memory_limit),
        "datagram_queue" => bytes(config.datagram_queue),
        "max_datagram" => bytes(config.max_datagram),
        "datagram_batch" => config.datagram_batch.to_string(),
        "datagram_budget" => config.datagram_budget.to_string(),
        "mailbox_limit" => config.mailbox_limit.to_string(),
        "read_budget" => bytes(config.read_budget),
        "read_calls" => config.read_calls.to_string(),
        "accept_budget" => config.accept_budget.to_string(),
        "drain_limit" => bytes(config.drain_limit),
        "max_lookups" => config.max_lookups.to_string(),
        "max_connections" => match config.max_connections {
            None => "the descriptor limit less `reserved_descriptors`".to_owned(),
            Some(most) => most.to_string(),
        },
        "reserved_descriptors" => config.reserved_descriptors.to_string(),
        "busy_poll" if config.busy_poll.is_zero() => "off".to_owned(),
        "accept_backoff_min" => time(config.accept_backoff_min),
        "accept_backoff_max" => time(config.accept_backoff_max),
        _ => return None,
    })
}

#[test]
fn the_readme_states_the_defaults_as_they_are() {
    let readme = readme();
    let rows = named_rows(&readme);
    assert!(
        rows.len() >= 20,
        "the table of limits has lost rows: {rows:?}"
    );
    for (field, stated) in rows {
        let actual = default_of(field);
        assert_eq!(Some(stated), actual.as_deref(), "{field}");
    }
}

#[test]
fn the_readme_states_the_oldest_supported_rust() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(readme().contains(&format!("version is **{version}**")));
}

#[test]
fn the_readme_shows_the_two_commands_first() {
    let readme = readme();
    let first = readme.split("```").nth(1).unwrap();
    assert_eq!(
        first,
        "text\ncargo run --release --example backlog\ncargo test --all-features\n"
    );
}

#[test]
fn every_file_that_is_named_exists() {
    let mut missing = BTreeSet::new();
    for (document, text) in documents() {
        for name in quoted(&text) {
            let is_path = ["src/", "tests/", "examples/", "docs/", "benches/"]
                .iter()
                .any(|folder| name.starts_with(folder));
            // A test is named by its file and its name; see below.
            let is_test = name.contains("::");
            if is_path && !is_test && !root().join(name).exists() {
                missing.insert((document.clone(), name.to_owned()));
            }
        }
    }
    assert!(missing.is_empty(), "named, but not there: {missing:#?}");
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    for (document, text) in documents() {
        let folder = document.parent().unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = root().join(folder).join(target);
            assert!(path.exists(), "{}: {link}", document.display());
        }
    }
}

#[test]
fn every_promise_names_a_test_file_of_its_own() {
    let model = fs::read_to_string(root().join("docs/event-model.md")).unwrap();
    for number in 1..=8 {
        let section = model.split(&format!("### P{number}:")).nth(1).unwrap();
        let section = section.split("\n### ").next().unwrap();
        let own = format!("tests/p{number}_");
        assert!(
            quoted(section).any(|name| name.starts_with(&own)),
            "P{number} does not name its tests"
        );
    }
}

#[test]
fn every_room_is_on_the_map() {
    let map = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let mut rooms = Vec::new();
    for folder in ["", "kernel/"] {
        for entry in fs::read_dir(root().join("src").join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".rs") {
                rooms.push(format!("{folder}{name}"));
            }
        }
    }
    for room in rooms {
        // A layer exists for the tests only.
        if room != "layer.rs" {
            assert!(
                map.contains(&format!("| `{room}` |")),
                "{room} is not on the map"
            );
        }
    }
}

#[test]
fn every_page_has_its_code_compiled() {
    let front_door = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for (document, text) in documents() {
        let name = document.to_str().unwrap();
        // A fence opens with every other mark; one that says `text` has no code.
        let has_code = text
            .split("```")
            .skip(1)
            .step_by(2)
            .any(|block| !block.starts_with("text"));
        let is_compiled = front_door.contains(&format!("include_str!(\"../{name}\")"));
        assert!(!has_code || is_compiled, "{name} is not in src/lib.rs");
    }
}

/// The rows of the tables of Go's own tests: the number, and what stands under "Here".
fn go_rows(page: &str) -> Vec<(usize, &str)> {
    page.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let number = cells.next()?.parse().ok()?;
            Some((number, cells.nth(1)?.trim_end_matches(" |")))
        })
        .collect()
}

/// Whether a test of that name is in that file, or in the tests that stand beside it.
fn has_test(place: &str, name: &str) -> bool {
    let file = if place.contains('/') {
        root().join(place)
    } else {
        root().join("tests").join(place)
    };
    let files = [file.with_extension("rs"), file.join("tests.rs")];
    let wanted = format!("fn {name}(");
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .any(|text| text.contains(&wanted))
}

#[test]
fn every_behaviour_that_go_checks_has_a_test_or_a_reason() {
    let page = fs::read_to_string(root().join("docs/from-go.md")).unwrap();
    let rows = go_rows(&page);
    let numbers: Vec<usize> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=212).collect::<Vec<_>>());
    let mut tested = 0;
    for (number, here) in rows {
        if let Some(reason) = here.strip_prefix("—: ") {
            assert!(reason.len() > 10, "{number}: {reason}");
            continue;
        }
        tested += 1;
        for named in quoted(here) {
            let (place, name) = named.rsplit_once("::").unwrap();
            assert!(has_test(place, name), "{number}: {named}");
        }
    }
    let stated = format!("check 212 behaviours of sockets on Unix.\n{tested} of them");
    assert!(page.contains(&stated), "{tested} are tested");
}
