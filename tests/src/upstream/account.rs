//! The files and batches of one account at the provider, in memory, as OpenAI's API has them. Whoever has the key sees all of them: who
//! of the gateway's tenants made one, it doesn't know.

use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::plan::{self, Step};
use super::record::Bill;

/// When everything was made.
const CREATED: u64 = 1_795_000_000;

/// What the account holds, and what was run in it.
#[derive(Default)]
pub(super) struct Account {
    files: Vec<StoredFile>,
    batches: Vec<Batch>,
    count: u64,
    /// How each line of a batch is answered.
    pub(super) behaviour: Behaviour,
    /// A batch is run when it is next looked at.
    pub(super) runs_at_once: bool,
    /// A new file can be used once it was looked at.
    takes_in_later: bool,
}

struct StoredFile {
    id: String,
    purpose: String,
    name: String,
    content: Vec<u8>,
    status: &'static str,
}

struct Batch {
    id: String,
    body: Value,
    bills: Vec<Bill>,
}

/// How a batch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEnd {
    /// Every line was run.
    Completed,
    /// The first so many lines were run, then it was cancelled.
    Cancelled(usize),
    /// The first so many lines were run, then its day was over.
    Expired(usize),
    /// Its input was refused: nothing was run.
    Failed,
}

/// An answer: status, content type, body.
pub(super) type Answer = (u16, &'static str, Vec<u8>);

fn told(value: &Value) -> Answer {
    (200, "application/json", value.to_string().into_bytes())
}

fn refused(status: u16, message: &str) -> Answer {
    let error =
        json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": null } });
    (status, "application/json", error.to_string().into_bytes())
}

/// The part of a path that is the account's to answer, at OpenAI or at Azure.
fn of_account(target: &str) -> Option<&str> {
    let rest = target.strip_prefix("/v1/").or_else(|| target.strip_prefix("/openai/"))?;
    (rest.starts_with("files") || rest.starts_with("batches")).then_some(rest)
}

/// Whether a path is the account's to answer.
pub(super) fn is_of_account(target: &str) -> bool {
    of_account(target).is_some()
}

impl StoredFile {
    fn told(&self) -> Value {
        json!({
            "id": self.id, "object": "file", "bytes": self.content.len(), "created_at": CREATED, "filename": self.name,
            "purpose": self.purpose, "status": self.status, "expires_at": null
        })
    }
}

impl Account {
    /// Answers a request.
    pub(super) fn answer(&mut self, (method, target): (&str, &str), content_type: &str, body: &[u8]) -> Answer {
        let rest = of_account(target).expect("a path of the account");
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parts: Vec<&str> = path.split('/').collect();
        let azure = target.starts_with("/openai/");
        self.takes_in_later = azure;
        let (status, kind, body) = self.told((method, parts.as_slice()), query, (content_type, body));
        // Azure has statuses of its own.
        match (azure, method, status) {
            (true, "POST", 200) => (201, kind, body),
            (true, "DELETE", 200) => (204, kind, Vec::new()),
            _ => (status, kind, body),
        }
    }

    fn told(&mut self, (method, parts): (&str, &[&str]), query: &str, (content_type, body): (&str, &[u8])) -> Answer {
        match (method, parts) {
            ("POST", ["files"]) => self.upload(content_type, body),
            ("GET", ["files"]) => told(&json!({
                "object": "list", "data": self.files.iter().map(StoredFile::told).collect::<Vec<_>>(), "has_more": false
            })),
            ("GET", ["files", id]) => match self.files.iter_mut().find(|file| file.id == *id) {
                None => no_file(id),
                Some(file) => {
                    file.status = "processed";
                    told(&file.told())
                }
            },
            ("GET", ["files", id, "content"]) => self
                .file(id)
                .map_or_else(|| no_file(id), |file| (200, "application/octet-stream", file.content.clone())),
            ("DELETE", ["files", id]) => {
                let before = self.files.len();
                self.files.retain(|file| file.id != *id);
                if self.files.len() == before {
                    return no_file(id);
                }
                told(&json!({ "id": id, "object": "file", "deleted": true }))
            }
            ("POST", ["batches"]) => self.create(&serde_json::from_slice(body).unwrap_or(Value::Null)),
            ("GET", ["batches"]) => self.list(query),
            ("GET", ["batches", id]) => {
                if self.runs_at_once {
                    self.finish(id, BatchEnd::Completed);
                }
                self.batch(id).map_or_else(|| no_batch(id), |batch| told(&batch.body))
            }
            ("POST", ["batches", id, "cancel"]) => match self.batches.iter_mut().find(|batch| batch.id == *id) {
                None => no_batch(id),
                Some(batch) if batch.body["status"] != "in_progress" => refused(409, "It can't be cancelled any more."),
                Some(batch) => {
                    batch.body["status"] = json!("cancelling");
                    batch.body["cancelling_at"] = json!(CREATED + 1);
                    told(&batch.body)
                }
            },
            _ => refused(404, "Unknown request URL"),
        }
    }

    fn file(&self, id: &str) -> Option<&StoredFile> {
        self.files.iter().find(|file| file.id == id)
    }

    fn batch(&self, id: &str) -> Option<&Batch> {
        self.batches.iter().find(|batch| batch.id == id)
    }

    fn next_id(&mut self, prefix: &str) -> String {
        self.count += 1;
        format!("{prefix}{:022}", self.count)
    }

    fn add(&mut self, purpose: &str, name: &str, content: Vec<u8>) -> String {
        let id = self.next_id("file-");
        let (purpose, name) = (purpose.to_owned(), name.to_owned());
        let status = if self.takes_in_later { "pending" } else { "processed" };
        self.files.push(StoredFile { id: id.clone(), purpose, name, content, status });
        id
    }

    fn upload(&mut self, content_type: &str, body: &[u8]) -> Answer {
        let Some(parts) = form(content_type, body) else { return refused(400, "Not a form.") };
        let part = |name: &str| parts.iter().find(|part| part.name == name);
        let (Some(purpose), Some(file)) = (part("purpose"), part("file")) else {
            return refused(400, "`purpose` and `file` are needed.");
        };
        let purpose = String::from_utf8_lossy(&purpose.content).into_owned();
        let id = self.add(&purpose, file.filename.as_deref().unwrap_or("file"), file.content.clone());
        told(&self.file(&id).expect("just added").told())
    }

    fn create(&mut self, body: &Value) -> Answer {
        let input = body["input_file_id"].as_str().unwrap_or_default();
        let Some(file) = self.file(input) else { return refused(400, "The input file does not exist.") };
        if file.status != "processed" {
            return refused(400, "The input file is not taken in yet.");
        }
        if file.purpose != "batch" {
            return refused(400, "The input file has another purpose.");
        }
        if body["completion_window"] != "24h" {
            return refused(400, "`completion_window` must be 24h.");
        }
        let total = lines(&file.content).count();
        let id = self.next_id("batch_");
        let told_now = json!({
            "id": id, "object": "batch", "endpoint": body["endpoint"], "errors": null, "input_file_id": input,
            "completion_window": "24h", "status": "in_progress", "output_file_id": null, "error_file_id": null,
            "created_at": CREATED, "in_progress_at": CREATED, "expires_at": CREATED + 86_400, "finalizing_at": null,
            "completed_at": null, "failed_at": null, "expired_at": null, "cancelling_at": null, "cancelled_at": null,
            "request_counts": { "total": total, "completed": 0, "failed": 0 }, "metadata": body["metadata"]
        });
        self.batches.push(Batch { id, body: told_now.clone(), bills: Vec::new() });
        told(&told_now)
    }

    fn list(&self, query: &str) -> Answer {
        let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let limit = of("limit").and_then(|limit| limit.parse().ok()).unwrap_or(20_usize);
        let newest: Vec<&Batch> = self.batches.iter().rev().collect();
        let from = of("after").map_or(0, |id| newest.iter().position(|batch| batch.id == id).map_or(0, |at| at + 1));
        let page: Vec<&Value> = newest.iter().skip(from).take(limit).map(|batch| &batch.body).collect();
        told(&json!({ "object": "list", "data": page, "has_more": newest.len() > from + limit }))
    }

    /// Runs what is left of a batch that runs, and ends it.
    pub(super) fn finish(&mut self, id: &str, end: BatchEnd) {
        let Some(at) = self.batches.iter().position(|batch| batch.id == id) else { return };
        let body = &self.batches[at].body;
        if !matches!(body["status"].as_str(), Some("in_progress" | "cancelling")) {
            return;
        }
        let input = body["input_file_id"].as_str().expect("an id").to_owned();
        let (most, status) = match end {
            BatchEnd::Completed => (usize::MAX, "completed"),
            BatchEnd::Cancelled(most) => (most, "cancelled"),
            BatchEnd::Expired(most) => (most, "expired"),
            BatchEnd::Failed => (0, "failed"),
        };
        let content = self.file(&input).map(|file| file.content.clone()).unwrap_or_default();
        let (mut output, mut errors, mut bills) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines(&content).take(most) {
            let (answer, bill) = self.run(&line);
            match bill {
                Some(bill) => {
                    output.extend(format!("{answer}\n").into_bytes());
                    bills.push(bill);
                }
                None => errors.extend(format!("{answer}\n").into_bytes()),
            }
        }
        let completed = bills.len();
        let failed = lines(&errors).count();
        let mut file = |name: &str, content: Vec<u8>| {
            if content.is_empty() { Value::Null } else { json!(self.add("batch_output", name, content)) }
        };
        let (output, errors) = (file("output.jsonl", output), file("errors.jsonl", errors));
        let batch = &mut self.batches[at];
        batch.bills = bills;
        batch.body["status"] = json!(status);
        batch.body["output_file_id"] = output;
        batch.body["error_file_id"] = errors;
        batch.body[format!("{status}_at")] = json!(CREATED + 60);
        batch.body["request_counts"]["completed"] = json!(completed);
        batch.body["request_counts"]["failed"] = json!(failed);
    }

    /// One line's answer, and its bill unless it failed.
    fn run(&mut self, line: &Value) -> (Value, Option<Bill>) {
        self.count += 1;
        let id = format!("batch_req_{:06}", self.count);
        let fails = line.to_string().contains("please-fail");
        let (status, body, bill) = if fails {
            (400, json!({ "error": { "message": "Scripted.", "type": "invalid_request_error" } }), None)
        } else {
            let url = line["url"].as_str().unwrap_or_default();
            let planned = plan::plan(url, &line["body"], self.count, &self.behaviour);
            let bytes: Vec<u8> = planned.steps.into_iter().filter_map(body_of).flatten().collect();
            (200, serde_json::from_slice(&bytes).expect("a whole answer"), Some(planned.bill))
        };
        let response = json!({ "status_code": status, "request_id": "req_scripted", "body": body });
        (json!({ "id": id, "custom_id": line["custom_id"], "response": response, "error": null }), bill)
    }

    /// What the provider bills for batches, line by line.
    pub(super) fn bills(&self) -> Vec<Bill> {
        self.batches.iter().flat_map(|batch| batch.bills.clone()).collect()
    }

    /// The ids of all batches, oldest first.
    pub(super) fn batch_ids(&self) -> Vec<String> {
        self.batches.iter().map(|batch| batch.id.clone()).collect()
    }

    /// The ids of all files, oldest first.
    pub(super) fn file_ids(&self) -> Vec<String> {
        self.files.iter().map(|file| file.id.clone()).collect()
    }

    /// Puts other content in the place of a file's.
    pub(super) fn replace(&mut self, id: &str, content: Vec<u8>) {
        self.files.iter_mut().find(|file| file.id == id).expect("a file").content = content;
    }

    /// The input that a batch is run on.
    pub(super) fn input_of(&self, batch: &str) -> String {
        let id = self.batch(batch).map(|batch| batch.body["input_file_id"].as_str().expect("an id")).expect("a batch");
        String::from_utf8(self.file(id).expect("its input").content.clone()).expect("text")
    }
}

fn no_file(id: &str) -> Answer {
    refused(404, &format!("No such File object: {id}"))
}

fn no_batch(id: &str) -> Answer {
    refused(404, &format!("No batch found with id '{id}'."))
}

fn body_of(step: Step) -> Option<Vec<u8>> {
    match step {
        Step::Body { bytes, .. } => Some(bytes),
        _ => None,
    }
}

fn lines(content: &[u8]) -> impl Iterator<Item = Value> + '_ {
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a line of JSON"))
}

/// One part of a form.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content: Vec<u8>,
}

/// The parts of a form.
pub(super) fn form(content_type: &str, body: &[u8]) -> Option<Vec<Part>> {
    let boundary = content_type.split("boundary=").nth(1)?.trim_matches('"');
    let delimiter = format!("--{boundary}");
    let find = |from: usize, needle: &[u8]| {
        body[from..].windows(needle.len()).position(|window| window == needle).map(|at| from + at)
    };
    let mut parts = Vec::new();
    let mut at = find(0, delimiter.as_bytes())? + delimiter.len();
    while body.get(at..at + 2)? == b"\r\n" {
        let head_end = find(at, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&body[at..head_end]).into_owned();
        let next = find(head_end, format!("\r\n{delimiter}").as_bytes())?;
        let of = |key: &str| {
            let rest = head.split(&format!("; {key}=\"")).nth(1)?;
            rest.split('"').next().map(str::to_owned)
        };
        parts.push(Part { name: of("name")?, filename: of("filename"), content: body[head_end + 4..next].to_vec() });
        at = next + 2 + delimiter.len();
    }
    Some(parts)
}
