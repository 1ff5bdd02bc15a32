//! Events put together again: what the whole answer would have been.

use super::{Choice, Delta, Event, Opening, Part, Reply, Trouble};

/// Takes events one by one.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    reply: Reply,
    ended: bool,
    trouble: Option<Trouble>,
}

impl Assembler {
    /// Adds one event. What refers to a part that was never opened is left out.
    pub(crate) fn add(&mut self, event: &Event) {
        match event {
            Event::Start { id, model } => {
                self.reply.id.clone_from(id);
                self.reply.model.clone_from(model);
            }
            Event::Open { choice, part, opening } => self.open(*choice, *part, opening),
            Event::Grow { choice, part, delta } => self.grow(*choice, *part, delta),
            Event::Close { .. } | Event::Ping => {}
            Event::Logprobs { choice, logprobs } => self.logprobs(*choice, logprobs),
            Event::Stop { choice, stop } => self.choice(*choice).stop = Some(stop.clone()),
            Event::Usage(usage) => self.reply.usage = Some(*usage),
            Event::End => self.ended = true,
            Event::Error(trouble) => self.trouble = Some(trouble.clone()),
        }
    }

    /// The answer so far.
    pub(crate) fn reply(&self) -> &Reply {
        &self.reply
    }

    /// The whole answer; the failure when there was one; `None` while it is not complete.
    #[cfg(test)]
    pub(crate) fn finish(self) -> Option<Result<Reply, Trouble>> {
        match self.trouble {
            Some(trouble) => Some(Err(trouble)),
            None => self.ended.then_some(Ok(self.reply)),
        }
    }

    fn choice(&mut self, choice: u32) -> &mut Choice {
        let at = usize::try_from(choice).unwrap_or(usize::MAX).min(1 << 10);
        if self.reply.choices.len() <= at {
            self.reply.choices.resize_with(at + 1, Choice::default);
        }
        // The list was just made long enough.
        self.reply.choices.get_mut(at).unwrap_or_else(|| unreachable!("the choice exists"))
    }

    fn open(&mut self, choice: u32, part: u32, opening: &Opening) {
        let parts = &mut self.choice(choice).parts;
        let new = match opening {
            Opening::Text => Part::text(""),
            Opening::Thinking => Part::Thinking { text: String::new(), signature: None },
            Opening::RedactedThinking { data } => Part::RedactedThinking { data: data.clone() },
            Opening::ToolCall { id, name } => {
                Part::ToolCall { id: id.clone(), name: name.clone(), arguments: String::new(), signature: None }
            }
            Opening::Refusal => Part::Refusal { text: String::new() },
        };
        if usize::try_from(part).is_ok_and(|part| part == parts.len()) {
            parts.push(new);
        }
    }

    fn grow(&mut self, choice: u32, part: u32, delta: &Delta) {
        let at = usize::try_from(part).unwrap_or(usize::MAX);
        let Some(part) = self.choice(choice).parts.get_mut(at) else { return };
        match (part, delta) {
            (Part::Text { text, .. } | Part::Thinking { text, .. } | Part::Refusal { text }, Delta::Text(more)) => {
                text.push_str(more);
            }
            (Part::ToolCall { arguments, .. }, Delta::Arguments(more)) => arguments.push_str(more),
            (Part::Thinking { signature, .. } | Part::ToolCall { signature, .. }, Delta::Signature(more)) => {
                signature.get_or_insert_default().push_str(more);
            }
            _ => {}
        }
    }

    fn logprobs(&mut self, choice: u32, more: &serde_json::Value) {
        let known = &mut self.choice(choice).logprobs;
        let Some(known) = known else {
            *known = Some(more.clone());
            return;
        };
        for list in ["content", "refusal"] {
            let added = more.get(list).and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
            if let Some(all) = known.get_mut(list).and_then(serde_json::Value::as_array_mut) {
                all.extend(added);
            } else if !added.is_empty() {
                known[list] = added.into();
            }
        }
    }
}
