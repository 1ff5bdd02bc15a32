//! `keys list|rotate`: the gateway's own keys, by their ids.

use clap::{Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::Table;

/// What the operator can do with the gateway's own keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the ids of the keys; no key is ever shown
    List,
    /// Make a new key and put it in the old one's place, while the gateway serves
    Rotate {
        /// Which key
        #[arg(value_enum, default_value_t = KeyKind::Master)]
        key: KeyKind,
    },
}

/// A key of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    /// What tenants' provider keys are sealed with
    Master,
    /// What tokens are hashed with
    Pepper,
}

impl KeyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Pepper => "pepper",
        }
    }
}

pub(crate) async fn execute(command: &KeyCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        KeyCommand::List => {
            let answer = client.text(Call::get(&["keys"], &[])).await?;
            if json { Ok(format!("{answer}\n")) } else { Ok(list(&serde_json::from_str(&answer)?)) }
        }
        KeyCommand::Rotate { key } => {
            let call = Call::send(Method::POST, &["keys", "rotate"], json!({"key": key.name()}));
            let answer = client.long_text(call).await?;
            if json { Ok(format!("{answer}\n")) } else { Ok(told(*key, &serde_json::from_str(&answer)?)) }
        }
    }
}

fn list(answer: &Value) -> String {
    let mut table = Table::new(&["KEY", "ID", "STATE"]);
    for kind in ["master", "pepper"] {
        for (place, kid) in field(answer, kind).as_array().into_iter().flatten().enumerate() {
            let state = if place == 0 { "in use" } else { "opens what it made" };
            table.row([kind.to_owned(), shown(kid), state.to_owned()]);
        }
    }
    table.render("no keys")
}

fn told(key: KeyKind, answer: &Value) -> String {
    let say = |name: &str| shown(field(answer, name));
    let mut text = format!("the {} key is {} now\n", key.name(), say("kid"));
    if field(answer, "resumed").as_bool() == Some(true) {
        text.push_str("a rotation that had not ended was ended; run it again for a further key\n");
    }
    if key == KeyKind::Master {
        text.push_str(&format!("{} values were sealed anew\n", say("resealed")));
        if field(answer, "unreadable").as_u64() > Some(0) {
            text.push_str(&format!("{} values can't be opened with any key: set those again\n", say("unreadable")));
        }
    }
    let retired = say("retired");
    if !retired.is_empty() {
        text.push_str(&format!("removed, since nothing uses it any more: {retired}\n"));
    }
    if key == KeyKind::Master {
        text.push_str("conversations that clients had compacted before can be continued until the next start\n");
        text.push_str("back up the data directory's keys now: a backup from before needs the old one\n");
    }
    text
}
