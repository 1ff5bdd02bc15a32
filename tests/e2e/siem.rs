//! The forwarders' configurations in `conf/siem` know the audit log as it really is: each field that they name is in a real line,
//! and each field of a real line is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use openclawmu_tests::{Scene, audit};
use serde_json::{Value, json};

fn conf(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/siem").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// A real line of a change over the network, and its fields; the detail is one of them.
async fn line() -> (Value, BTreeSet<String>) {
    let scene = Scene::new().await;
    scene.admin().patch("acme", &json!({ "name": "New" })).await;
    let line = audit::lines(&scene.gateway.data().join("audit")).pop().expect("a line");
    let mut fields = BTreeSet::new();
    for (name, value) in line.as_object().expect("an object") {
        match value.as_object().filter(|_| name != "detail") {
            Some(parts) => fields.extend(parts.keys().map(|part| format!("{name}.{part}"))),
            None => drop(fields.insert(name.clone())),
        }
    }
    assert!(fields.len() == 13 && fields.contains("actor.kind"), "{fields:?}");
    (line, fields)
}

/// The value of a dotted name.
fn at<'a>(line: &'a Value, name: &str) -> &'a Value {
    name.split('.').fold(line, |value, part| &value[part])
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().expect("text").to_owned()).collect()
}

/// The settings of a stanza of Splunk's.
fn stanza(text: &str, name: &str) -> BTreeMap<String, String> {
    let lines = text.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    let own = lines.take_while(|line| !line.starts_with('['));
    let pairs = own.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// U-01's fields, at Splunk
#[tokio::test(flavor = "multi_thread")]
async fn splunk_aliases_and_evaluates_fields_that_lines_have() {
    let (line, fields) = line().await;
    let props = stanza(&conf("splunk/props.conf"), "openclawmu:audit");
    assert_eq!(
        (props["KV_MODE"].as_str(), props["SHOULD_LINEMERGE"].as_str(), props["TRUNCATE"].as_str()),
        ("json", "false", "0")
    );
    let mut named = 0;
    for (key, value) in &props {
        if key.starts_with("FIELDALIAS-") {
            let (from, _) = value.split_once(" AS ").expect("an alias");
            assert!(fields.contains(from), "{key}: {from}");
            named += 1;
        }
        for from in ["outcome", "action"] {
            named += usize::from(key.starts_with("EVAL-") && value.contains(from) && fields.contains(from));
        }
    }
    assert!(named >= 8, "{props:?}");
    for outcome in ["ok", "denied", "failed"] {
        assert!(props["EVAL-status"].contains(&format!("outcome==\"{outcome}\"")), "{outcome}");
    }
    // The time is where it is looked for, in the form that is looked for.
    let text = line.to_string();
    let after = text.split_once(props["TIME_PREFIX"].as_str()).expect("the prefix is in a line").1;
    assert_eq!(props["TIME_FORMAT"], "%Y-%m-%dT%H:%M:%S.%3NZ");
    let time = &after[..props["MAX_TIMESTAMP_LOOKAHEAD"].parse().expect("a number")];
    let form: String = time.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z");
    let inputs = conf("splunk/inputs.conf");
    assert!(inputs.contains("sourcetype = openclawmu:audit") && inputs.contains("/audit]"), "{inputs}");
}

/// U-01's fields, at Elastic: the pipeline is walked over a real line
#[tokio::test(flavor = "multi_thread")]
async fn elastics_pipeline_takes_every_field_of_a_line_and_no_other() {
    let (line, fields) = line().await;
    let pipeline: Value = serde_json::from_str(&conf("elastic/ingest-pipeline.json")).expect("JSON");
    let (mut taken, mut made) = (BTreeSet::new(), BTreeMap::new());
    for processor in pipeline["processors"].as_array().expect("a list") {
        let (kind, what) = processor.as_object().and_then(|one| one.iter().next()).expect("a processor");
        let field = what["field"].as_str().expect("a field");
        match (kind.as_str(), field.strip_prefix("audit.")) {
            ("rename" | "date", Some(from)) => {
                assert!(fields.contains(from), "{processor}");
                taken.insert(from.to_owned());
                made.insert(what["target_field"].as_str().expect("a name").to_owned(), at(&line, from).clone());
            }
            ("append", None) => {
                let template = texts(&what["value"]).concat();
                let from = template.trim_start_matches("{{{audit.").trim_end_matches("}}}").to_owned();
                assert!(fields.contains(&from), "{processor}");
                taken.insert(from);
            }
            ("set" | "remove", _) => {}
            other => panic!("{other:?} is not known here: {processor}"),
        }
    }
    assert_eq!(taken, fields);
    assert_eq!(
        (&made["event.action"], &made["user.id"], &made["source.ip"], &made["organization.id"]),
        (&json!("tenant.update"), &json!("admin.key"), &json!("127.0.0.1"), &json!("acme"))
    );
    let filebeat = conf("elastic/filebeat.yml");
    let needed = ["pipeline: openclawmu-audit", "target: audit", "/audit/audit.jsonl\n", "/audit/audit-*.jsonl\n"];
    assert!(needed.iter().all(|part| filebeat.contains(part)), "{filebeat}");
}

/// U-01's fields, at Datadog
#[tokio::test(flavor = "multi_thread")]
async fn datadogs_pipeline_takes_every_field_of_a_line_and_no_other() {
    let (_, fields) = line().await;
    let pipeline: Value = serde_json::from_str(&conf("datadog/pipeline.json")).expect("JSON");
    let (mut taken, mut made, mut outcomes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for processor in pipeline["processors"].as_array().expect("a list") {
        let sources = texts(&processor["sources"]);
        match processor["type"].as_str().expect("a type") {
            "category-processor" => {
                made.insert(processor["target"].as_str().expect("a name").to_owned());
                for category in processor["categories"].as_array().expect("a list") {
                    let query = category["filter"]["query"].as_str().expect("a query");
                    outcomes.insert(query.strip_prefix("@outcome:").expect("the outcome").to_owned());
                }
            }
            "status-remapper" => assert!(sources.iter().all(|source| made.contains(source)), "{processor}"),
            "date-remapper" | "attribute-remapper" => {
                assert!(sources.iter().all(|source| fields.contains(source)), "{processor}");
                taken.extend(sources);
            }
            other => panic!("{other} is not known here"),
        }
    }
    assert_eq!(taken, fields);
    assert_eq!(outcomes, ["denied", "failed", "ok"].map(str::to_owned).into());
    let agent = conf("datadog/conf.yaml");
    let query = pipeline["filter"]["query"].as_str().expect("a query");
    for part in query.split(' ') {
        assert!(agent.contains(&part.replace(':', ": ")), "{part} in {agent}");
    }
    assert!(agent.contains("/audit/audit.jsonl\n"), "{agent}");
}
