//! How a form asks: a labelled field, with what was typed before and what is wrong with it.

use maud::{Markup, html};

use crate::admin::console::page::{Failed, problem};

/// The fields of one form of a page.
pub(super) struct Fields<'a> {
    form: &'static str,
    failed: Option<&'a Failed>,
}

/// A field, by the API's name.
#[derive(Clone, Copy, Default)]
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) label: &'a str,
    /// What it holds unless something else was typed.
    pub(super) value: &'a str,
    pub(super) hint: &'a str,
    pub(super) needed: bool,
    pub(super) shape: Shape,
}

/// What a field looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    #[default]
    Line,
    /// A number or an amount: digits, in a narrow field.
    Amount,
    Lines,
    /// Never filled again.
    Secret,
}

impl<'a> Fields<'a> {
    /// Those of the form of this name, of which `failed` may be the one.
    pub(super) fn of(form: &'static str, failed: Option<&'a Failed>) -> Self {
        Self { form, failed: failed.filter(|failed| failed.form == form) }
    }

    /// What is wrong with the form.
    pub(super) fn problem(&self) -> Markup {
        html! { @if let Some(failed) = self.failed { (problem(&failed.refusal)) } }
    }

    /// What was typed, else `value`.
    pub(super) fn typed<'v>(&'v self, name: &str, value: &'v str) -> &'v str {
        self.failed.map_or(value, |failed| failed.sent.text(name))
    }

    /// Whether a box of a group is ticked.
    pub(super) fn ticked(&self, name: &str, value: &str, before: bool) -> bool {
        self.failed.map_or(before, |failed| failed.sent.all(name).contains(&value))
    }

    /// Whether the refusal names this field; one of a list's entries is the list's.
    fn is_wrong(&self, name: &str) -> bool {
        let field = self.failed.and_then(|failed| failed.refusal.field_name());
        field.is_some_and(|field| field == name || field.split('[').next() == Some(name))
    }

    pub(super) fn field(&self, field: Field<'_>) -> Markup {
        let Field { name, label, value, hint, needed, shape } = field;
        let id = format!("{}-{}", self.form, name.replace('.', "-"));
        let hint_id = format!("{id}-hint");
        let (wrong, typed) = (self.is_wrong(name), self.typed(name, value));
        let described = (!hint.is_empty()).then_some(hint_id.as_str());
        let kind = match shape {
            Shape::Secret => "password",
            Shape::Line | Shape::Amount | Shape::Lines => "text",
        };
        html! {
            div.field.wrong[wrong] {
                label for=(id) { (label) @if needed { span.quiet { " (needed)" } } }
                @if shape == Shape::Lines {
                    textarea id=(id) name=(name) rows="4" spellcheck="false" required[needed] aria-invalid=[wrong.then_some("true")]
                        aria-describedby=[described] { (typed) }
                } @else {
                    input id=(id) name=(name) type=(kind) value=[(shape != Shape::Secret).then_some(typed)] required[needed]
                        autocomplete="off" spellcheck="false" inputmode=[(shape == Shape::Amount).then_some("decimal")]
                        aria-invalid=[wrong.then_some("true")] aria-describedby=[described];
                }
                @if !hint.is_empty() { p.hint id=(hint_id) { (hint) } }
            }
        }
    }

    /// A choice of one.
    pub(super) fn choice(&self, (name, label): (&str, &str), value: &str, options: &[(&str, &str)]) -> Markup {
        let id = format!("{}-{}", self.form, name.replace('.', "-"));
        let (typed, wrong) = (self.typed(name, value), self.is_wrong(name));
        html! {
            div.field.wrong[wrong] {
                label for=(id) { (label) }
                select id=(id) name=(name) aria-invalid=[wrong.then_some("true")] {
                    @for (option, says) in options { option value=(option) selected[*option == typed] { (says) } }
                }
            }
        }
    }

    /// A group of boxes.
    pub(super) fn boxes(&self, (name, label): (&str, &str), options: &[&str], ticked: bool) -> Markup {
        html! {
            fieldset.boxes.wrong[self.is_wrong(name)] {
                legend { (label) }
                @for option in options {
                    label { input type="checkbox" name=(name) value=(option) checked[self.ticked(name, option, ticked)]; (option) }
                }
            }
        }
    }
}
