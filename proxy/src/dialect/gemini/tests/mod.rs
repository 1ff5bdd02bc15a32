//! This dialect as a whole: golden files of what Google and its clients send, and properties of every form.

mod arbitrary;
mod golden;
mod properties;
