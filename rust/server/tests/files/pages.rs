//! The frontend, and the page of our own.

use super::support::{Options, Site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_frontend_is_served_from_its_folder() {
    let site = Site::start().await;
    assert!(
        site.get("/").await.text().contains("Rushlight"),
        "without a frontend there is a page of our own"
    );
    site.put("frontend/index.html", "<!doctype html>frontend");
    site.put("frontend/assets/app.js", "let a;");
    site.put("outside.txt", "secret");
    let index = site.get("/").await;
    assert_eq!(index.text(), "<!doctype html>frontend");
    assert_eq!(index.header("cache-control"), Some("no-cache"));
    assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
    let script = site.get("/assets/app.js").await;
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(site.get("/assets/none.js").await.status, 404);
    for path in
        ["/../outside.txt", "/%2e%2e/outside.txt", "/..%2Foutside.txt", "/assets/..%2F..%2Foutside.txt"]
    {
        assert!([400, 404].contains(&site.get(path).await.status), "{path}");
    }
    assert_eq!(site.get("//etc/passwd").await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_our_own_runs_under_a_strict_policy() {
    let site = Site::start().await;
    let page = site.get("/rushlight/").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    assert!(!text.contains("<style") && !text.contains(" style=") && !text.contains(" onclick="));
    for (file, kind) in [
        ("page.js", "text/javascript; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ] {
        assert!(text.contains(&format!("/rushlight/{file}")));
        assert_eq!(site.get(&format!("/rushlight/{file}")).await.header("content-type"), Some(kind));
    }
    assert_eq!(site.get("/rushlight").await.status, 308);
    assert_eq!(site.get("/templates/none.none").await.status, 404);
    assert_eq!(site.get("/docs/none/none.none").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_the_page_need_no_token_and_everything_else_does() {
    let mut options = Options::default();
    options.settings.api_tokens = vec!["secret".into()];
    let site = Site::with(options).await;
    assert_eq!(site.get("/rushlight/page.js").await.status, 200);
    assert_eq!(site.get("/").await.status, 401);
    assert_eq!(site.get("/?token=secret").await.status, 200);
    assert_eq!(site.get("/rushlight/..%2Fsettings").await.status, 401);
    assert_eq!(site.get("/rushlight/other").await.status, 401);
}
