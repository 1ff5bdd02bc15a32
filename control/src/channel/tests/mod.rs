//! Adapters by their providers' own examples and by what an attacker sends; turns and deliveries with scripted agents.

mod scene;
mod slack;
mod telegram;
mod webhook;
mod whatsapp;
mod work;
