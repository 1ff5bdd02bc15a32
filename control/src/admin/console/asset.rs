//! The style, the script and the picture that pages are made with, out of this program alone.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

pub(super) async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("asset/console.css")).into_response()
}

pub(super) async fn script() -> Response {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("asset/console.js")).into_response()
}

pub(super) async fn icon() -> Response {
    ([(CONTENT_TYPE, "image/svg+xml")], include_str!("asset/icon.svg")).into_response()
}
