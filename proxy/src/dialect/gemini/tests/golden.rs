//! Golden files. `OPENCLAWMU_BLESS=1` writes what differs.

use crate::dialect::form::{Assembler, Event, Reply};
use crate::dialect::gemini::{reply, request, stream};
use crate::dialect::{Shown, golden};
use crate::sse::{self, Splitter};

/// The names of a folder's fixtures: what stands before `ending`.
fn fixtures(folder: &str, ending: &str) -> Vec<String> {
    let names = golden::list(&format!("gemini/golden/{folder}"), ending);
    names.iter().map(|name| name.strip_suffix(ending).unwrap().to_owned()).collect()
}

pub(super) fn shown() -> Shown {
    Shown {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        model: "fast".to_owned(),
        created: 1_790_000_000,
        wants_usage: true,
        echo: None,
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
        let mut form = request::parse(&golden::input(&format!("{name}.client.json")))
            .unwrap_or_else(|err| panic!("{name}: {err}"));
        golden::check_debug(&format!("{name}.form.txt"), &form);
        form.model = "gemini-2.5-pro".to_owned();
        let body = request::write(&form).unwrap_or_else(|err| panic!("{name}: {err}"));
        golden::check_json(&format!("{name}.provider.json"), &body);
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
        let form = reply::parse(golden::input(&format!("{name}.provider.json")).as_bytes()).unwrap();
        golden::check_debug(&format!("{name}.form.txt"), &form);
        golden::check_json(&format!("{name}.client.json"), &reply::write(&form, &shown()));
    }
}

#[test]
fn a_reassembled_stream_equals_the_whole_answer() {
    for name in fixtures("streams", ".provider.sse") {
        let bytes = golden::input(&format!("{name}.provider.sse"));
        let whole = golden::input(&format!("{}.provider.json", name.replace("/streams/", "/replies/")));
        let whole = reply::parse(whole.as_bytes()).unwrap();
        let all = events([bytes.as_bytes()]);
        let streamed = assembled(&all).unwrap_or_else(|| panic!("{name} is not complete"));
        assert_eq!(streamed, whole, "{name}");
        let client = written(&all);
        golden::check(&format!("{name}.client.sse"), std::str::from_utf8(&client).unwrap());
        let again = assembled(&events([client.as_slice()])).unwrap();
        assert_eq!(again, Reply { id: shown().id, model: shown().model, ..whole }, "{name}");
    }
}

#[test]
fn s8_01_a_stream_cut_at_every_byte_says_the_same() {
    for name in fixtures("streams", ".provider.sse") {
        let bytes = golden::input(&format!("{name}.provider.sse")).into_bytes();
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
        let bytes = golden::input(&format!("{name}.provider.sse"));
        let last = bytes.trim_end().rfind("data: ").unwrap();
        let all = events([&bytes.as_bytes()[..last]]);
        assert!(!all.contains(&Event::End), "{name}");
        let client = written(&all);
        assert!(!String::from_utf8(client).unwrap().contains("finishReason"), "{name}");
    }
}
