//! The inspector: one page for people, built into the program. What it shows it asks the API for, with the token that the
//! person has pasted; the files themselves are no secret, and the same for everybody.

use axum::extract::Request;
use axum::http::{header, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, MethodRouter};
use axum::Router;

use super::answer::Refusal;
use crate::core::error::ErrorCode;

/// Where the page is.
const ROOT: &str = "/inspect/";

/// One of its files.
struct File {
    /// What follows [`ROOT`], exactly: nothing is decoded and nothing is looked up on a disk, so no other path means a file.
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! file {
    ($name:literal, $source:literal, $content_type:expr) => {
        File { name: $name, content_type: $content_type, bytes: include_bytes!(concat!("../../inspector/", $source)) }
    };
    ($name:literal, $content_type:expr) => {
        file!($name, $name, $content_type)
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const FILES: &[File] = &[
    file!("", "index.html", HTML),
    file!("inspector.css", CSS),
    file!("icon.svg", SVG),
    file!("inspector.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("diff.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("editor.js", SCRIPT),
    file!("json.js", SCRIPT),
    file!("keys.js", SCRIPT),
    file!("model.js", SCRIPT),
    file!("room.js", SCRIPT),
    file!("rooms.js", SCRIPT),
];

/// What each of them is sent with. The page runs its own scripts only, talks to its own server only, cannot make markup
/// out of text, cannot be put into another page, and tells nobody where it was.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // For browsers that do not know frame-ancestors.
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // A newer server comes with a newer page.
    (header::CACHE_CONTROL, "no-store"),
];

fn find(path: &str) -> Option<&'static File> {
    let name = path.strip_prefix(ROOT)?;
    FILES.iter().find(|file| file.name == name)
}

fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn file(request: Request) -> Response {
    let nothing = || Refusal::new(404, ErrorCode::NotFound, "nothing is here; the inspector is at /inspect/");
    with_headers(match find(request.uri().path()) {
        Some(file) => ([(header::CONTENT_TYPE, file.content_type)], file.bytes).into_response(),
        None => nothing().into_response(),
    })
}

/// To where its files are found beside it. Relative, as the server may be behind a proxy that puts something before it.
async fn slash() -> Response {
    with_headers((StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "inspect/")]).into_response())
}

/// The routes of the page. People may come to it by a link from elsewhere, so what refuses requests of other sites must
/// not stand before them.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let only_get = |route: MethodRouter<S>| {
        route.fallback(|| async {
            with_headers(
                Refusal::new(405, ErrorCode::UnknownMethod, "the inspector's files can only be got").into_response(),
            )
        })
    };
    Router::new()
        .route("/inspect", only_get(get(slash)))
        .route("/inspect/", only_get(get(file)))
        .route("/inspect/{*rest}", only_get(get(file)))
}

/// Whether this is for the page.
pub(super) fn has_path(path: &str) -> bool {
    path == "/inspect" || path.starts_with(ROOT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn text(file: &File) -> &'static str {
        std::str::from_utf8(file.bytes).expect("the files are text")
    }

    /// What stands in quotes after each of some words.
    fn quoted_after<'a>(text: &'a str, words: &[&'static str]) -> Vec<&'a str> {
        let after = |word: &&'static str| {
            text.split(*word).skip(1).filter_map(|rest| rest.split('"').next()).collect::<Vec<_>>()
        };
        words.iter().flat_map(after).collect()
    }

    #[test]
    fn all_files_of_the_directory_are_served_and_no_others() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inspector");
        let there: BTreeSet<String> = std::fs::read_dir(directory)
            .expect("the directory of the page")
            .map(|entry| entry.expect("a file").file_name().into_string().expect("a name"))
            .collect();
        let served: BTreeSet<String> =
            FILES.iter().map(|file| if file.name.is_empty() { "index.html" } else { file.name }.to_owned()).collect();
        assert_eq!(served, there);
    }

    #[test]
    fn whatever_a_file_asks_for_is_served() {
        let mut asked = 0;
        for file in FILES {
            for name in quoted_after(text(file), &["from \"", "import(\"", "href=\"", "src=\""]) {
                if name.starts_with('#') || name.starts_with("http://www.w3.org/") {
                    continue;
                }
                let name = name.trim_start_matches("./");
                assert!(find(&format!("{ROOT}{name}")).is_some(), "{} asks for {name}", file.name);
                asked += 1;
            }
        }
        assert!(asked > 20, "only {asked}");
    }

    #[test]
    fn no_other_path_is_a_file() {
        for path in [
            "/inspect/../Cargo.toml",
            "/inspect/..%2fCargo.toml",
            "/inspect/%2e%2e/Cargo.toml",
            "/inspect//inspector.js",
            "/inspect/./inspector.js",
            "/inspect/inspector.js/",
            "/inspect/inspector.js%00",
            "/inspect/INSPECTOR.JS",
            "/inspect/index.html",
            "/inspect",
            "/inspector.js",
            "inspect/",
            "/inspect/..",
            "/inspect/\\..\\inspector.js",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
        assert!(find("/inspect/").is_some() && find("/inspect/inspector.js").is_some());
    }

    /// What comes from a room is text: nothing of the page makes markup or programs out of text, or has either inline.
    #[test]
    fn nothing_in_the_page_turns_text_into_markup_or_programs() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "setHTML",
            "createContextualFragment",
            "DOMParser",
            "srcdoc",
            "javascript:",
            "execCommand",
            "document.cookie",
            "style=\"",
            " onclick=\"",
            "<style",
            "unsafe-",
        ];
        for file in FILES {
            for word in forbidden {
                assert!(!text(file).contains(word), "{} has {word}", file.name);
            }
        }
        let page = FILES.iter().find(|file| file.name.is_empty()).map(text).unwrap_or_default();
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains("<script type=\"module\" src=\"inspector.js\"></script>"));
    }

    #[test]
    fn scripts_are_typed_and_all_is_small() {
        for file in FILES.iter().filter(|file| file.content_type == SCRIPT) {
            assert!(text(file).starts_with("// @ts-check\n"), "{}", file.name);
        }
        // It must load at once on a bad line; a third of it are comments and types.
        let size: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(size < 128 * 1024, "{size} bytes");
    }
}
