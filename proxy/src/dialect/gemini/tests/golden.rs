//! Golden files. `OPENCLAWMU_BLESS=1` writes what differs.

use std::path::{Path, PathBuf};

use crate::dialect::Shown;
use crate::dialect::form::{Assembler, Event, Reply};
use crate::dialect::gemini::{reply, request, stream};
use crate::sse::{self, Splitter};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dialect/gemini/golden").join(name)
}

/// The names of a folder's fixtures: what stands before `ending`.
fn fixtures(name: &str, ending: &str) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(folder(name))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().strip_suffix(ending).map(str::to_owned))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "there are no fixtures in {name}");
    found
}

fn read(name: &str, file: &str) -> String {
    std::fs::read_to_string(folder(name).join(file)).unwrap_or_else(|err| panic!("{name}/{file}: {err}"))
}

fn check(name: &str, file: &str, actual: &str) {
    let path = folder(name).join(file);
    if std::env::var_os("OPENCLAWMU_BLESS").is_some() {
        std::fs::write(path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (at, (left, right)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(left, right, "{name}/{file}, line {}; OPENCLAWMU_BLESS=1 writes it anew", at + 1);
    }
    assert_eq!(expected, actual, "{name}/{file}; OPENCLAWMU_BLESS=1 writes it anew");
}

fn pretty(json: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(json).unwrap();
    serde_json::to_string_pretty(&value).unwrap() + "\n"
}

pub(super) fn shown() -> Shown {
    Shown {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        model: "fast".to_owned(),
        created: 1_790_000_000,
        wants_usage: true,
    }
}

/// The events of a stream whose bytes come in `pieces`.
pub(super) fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut splitter, mut reader, mut out) = (Splitter::default(), stream::Reader::default(), Vec::new());
    for piece in pieces {
        splitter.push(piece).unwrap();
        while let Some(event) = splitter.next() {
            if let Some(data) = sse::data(&event) {
                reader.read(None, &data, &mut out);
            }
        }
    }
    reader.end(&mut out);
    out
}

pub(super) fn assembled(events: &[Event]) -> Option<Reply> {
    let mut assembler = Assembler::default();
    events.iter().for_each(|event| assembler.add(event));
    assembler.finish().map(|reply| reply.expect("no error in the stream"))
}

pub(super) fn written(events: &[Event]) -> Vec<u8> {
    let (mut writer, mut out) = (stream::Writer::new(&shown()), Vec::new());
    events.iter().for_each(|event| writer.write(event, &mut out));
    out
}

#[test]
fn requests_become_the_form_and_a_providers_body() {
    for name in fixtures("requests", ".client.json") {
        let mut form = request::parse(&read("requests", &format!("{name}.client.json")))
            .unwrap_or_else(|err| panic!("{name}: {err}"));
        check("requests", &format!("{name}.form.txt"), &format!("{form:#?}\n"));
        form.model = "gemini-2.5-pro".to_owned();
        let body = request::write(&form).unwrap_or_else(|err| panic!("{name}: {err}"));
        check("requests", &format!("{name}.provider.json"), &pretty(&body));
        let again = request::parse(std::str::from_utf8(&body).unwrap()).unwrap_or_else(|err| panic!("{name}: {err}"));
        assert_eq!(
            request::write(&crate::dialect::form::Request { model: form.model, ..again }).unwrap(),
            body,
            "{name}"
        );
    }
}

#[test]
fn replies_become_the_form_and_a_clients_body() {
    for name in fixtures("replies", ".provider.json") {
        let form = reply::parse(read("replies", &format!("{name}.provider.json")).as_bytes()).unwrap();
        check("replies", &format!("{name}.form.txt"), &format!("{form:#?}\n"));
        check("replies", &format!("{name}.client.json"), &pretty(&reply::write(&form, &shown())));
    }
}

#[test]
fn a_reassembled_stream_equals_the_whole_answer() {
    for name in fixtures("streams", ".provider.sse") {
        let bytes = read("streams", &format!("{name}.provider.sse"));
        let whole = reply::parse(read("replies", &format!("{name}.provider.json")).as_bytes()).unwrap();
        let all = events([bytes.as_bytes()]);
        let streamed = assembled(&all).unwrap_or_else(|| panic!("{name} is not complete"));
        assert_eq!(streamed, whole, "{name}");
        let client = written(&all);
        check("streams", &format!("{name}.client.sse"), std::str::from_utf8(&client).unwrap());
        let again = assembled(&events([client.as_slice()])).unwrap();
        assert_eq!(again, Reply { id: shown().id, model: shown().model, ..whole }, "{name}");
    }
}

#[test]
fn s8_01_a_stream_cut_at_every_byte_says_the_same() {
    for name in fixtures("streams", ".provider.sse") {
        let bytes = read("streams", &format!("{name}.provider.sse")).into_bytes();
        let whole = events([bytes.as_slice()]);
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(events([a, b]), whole, "{name} cut at {at}");
        }
        assert_eq!(events(bytes.chunks(1)), whole, "{name}");
    }
}

#[test]
fn s8_06_a_stream_that_broke_off_has_no_end() {
    for name in fixtures("streams", ".provider.sse") {
        let bytes = read("streams", &format!("{name}.provider.sse"));
        let last = bytes.trim_end().rfind("data: ").unwrap();
        let all = events([&bytes.as_bytes()[..last]]);
        assert!(!all.contains(&Event::End), "{name}");
        let client = written(&all);
        assert!(!String::from_utf8(client).unwrap().contains("finishReason"), "{name}");
    }
}
