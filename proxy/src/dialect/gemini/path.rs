//! Which model is asked, and how it is to answer: in this dialect both stand in the path.

use crate::dialect::ask::is_model_name;

/// What a path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The model, as the client named it.
    pub(crate) model: String,
    /// How the answer is framed.
    pub(crate) framing: Framing,
}

/// How an answer is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Whole.
    Whole,
    /// Server-sent events: `alt=sse`.
    Sse,
    /// A JSON array that grows: a stream without `alt=sse`.
    Array,
}

/// Reads what follows `/models/`, such as `gemini-2.5-pro:generateContent`, still escaped, and the query.
///
/// `None` where no model or another method is named.
pub(crate) fn parse(rest: &str, query: Option<&str>) -> Option<Target> {
    let rest = unescaped(rest)?;
    let (model, method) = rest.rsplit_once(':')?;
    let sse = query.unwrap_or_default().split('&').any(|pair| pair == "alt=sse");
    let framing = match method {
        "generateContent" => Framing::Whole,
        "streamGenerateContent" if sse => Framing::Sse,
        "streamGenerateContent" => Framing::Array,
        _ => return None,
    };
    is_model_name(model).then(|| Target { model: model.to_owned(), framing })
}

/// The text with its `%XX` resolved; `None` when it is not UTF-8 then, or an escape is torn.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let (escape, after) = after.split_at_checked(2)?;
        let digits = std::str::from_utf8(escape).ok().filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_the_model_and_the_framing() {
        let target = |model: &str, framing| Some(Target { model: model.to_owned(), framing });
        assert_eq!(parse("gemini-2.5-pro:generateContent", None), target("gemini-2.5-pro", Framing::Whole));
        let stream = "gemini-2.5-pro:streamGenerateContent";
        assert_eq!(parse(stream, Some("alt=sse")), target("gemini-2.5-pro", Framing::Sse));
        assert_eq!(parse(stream, Some("key=k&alt=sse")), target("gemini-2.5-pro", Framing::Sse));
        assert_eq!(parse(stream, None), target("gemini-2.5-pro", Framing::Array));
        assert_eq!(parse(stream, Some("alt=json")), target("gemini-2.5-pro", Framing::Array));
        assert_eq!(parse("up%2Fllama%3A3:generateContent", None), target("up/llama:3", Framing::Whole));
        assert_eq!(parse("up/llama:3:generateContent", None), target("up/llama:3", Framing::Whole));
    }

    #[test]
    fn what_names_no_model_or_another_method_is_none_of_ours() {
        for bad in [
            "",
            "m",
            ":generateContent",
            "m:countTokens",
            "m%0a:generateContent",
            "%zz:generateContent",
            "m%:generateContent",
            "%ff:generateContent",
            "%+1:generateContent",
        ] {
            assert_eq!(parse(bad, None), None, "{bad}");
        }
    }
}
