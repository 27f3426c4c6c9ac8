//! `/upload/image` and `/upload/mask`.

use serde_json::json;

use super::support::{Options, Site, png};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_lands_in_its_folder_and_is_named() {
    let site = Site::start().await;
    let file = png(2, 2, [1, 2, 3, 4]);
    let answer = site.upload("/upload/image", "a b.png", &file, &[]).await;
    assert_eq!(answer.json(), json!({ "name": "a b.png", "subfolder": "", "type": "input" }));
    assert_eq!(site.read("input/a b.png"), file);
    let fields = [("type", "temp"), ("subfolder", "x/y")];
    let answer = site.upload("/api/upload/image", "a.png", &file, &fields).await;
    assert_eq!(answer.json(), json!({ "name": "a.png", "subfolder": "x/y", "type": "temp" }));
    assert_eq!(site.read("temp/x/y/a.png"), file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_exist_are_kept_counted_or_overwritten() {
    let site = Site::start().await;
    let upload = |content: &'static str, overwrite: &'static str| {
        let site = &site;
        async move {
            let answer =
                site.upload("/upload/image", "a.png", content.as_bytes(), &[("overwrite", overwrite)]).await;
            answer.json()["name"].as_str().unwrap().to_owned()
        }
    };
    assert_eq!(upload("one", "").await, "a.png");
    assert_eq!(upload("one", "false").await, "a.png", "the same content keeps the old name");
    assert_eq!(upload("two", "").await, "a (1).png");
    assert_eq!(upload("three", "").await, "a (2).png");
    assert_eq!(upload("two", "").await, "a (1).png");
    assert_eq!(upload("four", "true").await, "a.png");
    assert_eq!(upload("five", "1").await, "a.png");
    assert_eq!(site.read("input/a.png"), b"five");
    assert_eq!(std::fs::read_dir(site.path("input")).unwrap().count(), 3, "no temporary file is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_forms_are_refused_and_leave_nothing() {
    let site = Site::start().await;
    assert_eq!(site.post("/upload/image", "no form").await.refusal(), "bad_form");
    let headers = [("Content-Type", "multipart/form-data; boundary=x")];
    for body in
        ["", "--x\r\n", "--x--\r\n", "--x\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\ncut"]
    {
        let answer = site.send("POST", "/upload/image", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{body:?}");
    }
    assert_eq!(site.upload("/upload/image", "", b"x", &[]).await.status, 400);
    assert_eq!(
        site.upload("/upload/image", "a.png", b"x", &[("type", "models")]).await.refusal(),
        "bad_type"
    );
    let long = "x".repeat(70_000);
    assert_eq!(site.upload("/upload/image", "a.png", b"x", &[("subfolder", &long)]).await.status, 400);
    assert_eq!(std::fs::read_dir(site.path("input")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_413_and_leaves_nothing() {
    let mut options = Options::default();
    options.settings.max_body_bytes = 10_000;
    let site = Site::with(options).await;
    let answer = site.upload("/upload/image", "a.png", &vec![0; 20_000], &[]).await;
    assert_eq!((answer.status, answer.refusal().as_str()), (413, "body_too_large"));
    // Without a length that says so: the limit holds while bytes come.
    let chunked = chunked_upload(&site, 20_000).await;
    assert_eq!(chunked, 413);
    assert_eq!(std::fs::read_dir(site.path("input")).unwrap().count(), 0);
}

async fn chunked_upload(site: &Site, size: usize) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let addr = site.server.addr();
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST /upload/image HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let part = "--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n".to_owned();
    let body = part + &"y".repeat(size) + "\r\n--x--\r\n";
    for chunk in body.as_bytes().chunks(1000) {
        let head = format!("{:x}\r\n", chunk.len());
        let piece = [head.as_bytes(), chunk, b"\r\n"].concat();
        if stream.write_all(&piece).await.is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mask_takes_over_alpha_and_keeps_the_originals_text() {
    let site = Site::start().await;
    let mut original = png(3, 2, [10, 20, 30, 255]);
    let text = b"\0\0\0\x05tEXtk\0abc\x8e\x35\x7c\x75";
    original.splice(33..33, text.iter().copied());
    site.put("output/s/o.png", &original);
    let mask = png(3, 2, [0, 0, 0, 77]);
    let reference = json!({ "filename": "o.png", "subfolder": "s", "type": "output" }).to_string();
    let fields = [("original_ref", reference.as_str()), ("subfolder", "clipspace")];
    let answer = site.upload("/upload/mask", "m.png", &mask, &fields).await;
    assert_eq!(answer.json(), json!({ "name": "m.png", "subfolder": "clipspace", "type": "input" }));
    let masked = site.read("input/clipspace/m.png");
    assert!(masked.windows(text.len()).any(|window| window == text), "text chunks are kept as they are");
    let decoded = site.get("/view?filename=m.png&subfolder=clipspace&type=input&channel=rgb").await.image();
    assert_eq!(decoded.to_rgb8().get_pixel(1, 1).0, [10, 20, 30]);
    let alpha = site.get("/view?filename=m.png&subfolder=clipspace&type=input&channel=a").await.image();
    assert_eq!(alpha.to_rgba8().get_pixel(1, 1).0[3], 77);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masks_that_do_not_fit_are_refused() {
    let site = Site::start().await;
    site.put("output/o.png", png(3, 2, [10, 20, 30, 255]));
    let mask = png(4, 2, [0, 0, 0, 77]);
    let upload = |reference: &'static str| {
        let (site, mask) = (&site, &mask);
        async move { site.upload("/upload/mask", "m.png", mask, &[("original_ref", reference)]).await }
    };
    assert_eq!(upload(r#"{"filename":"o.png"}"#).await.refusal(), "mask_size");
    assert_eq!(upload(r#"{"filename":"none.png"}"#).await.status, 404);
    assert_eq!(upload(r#"{"filename":"../o.png"}"#).await.status, 400);
    assert_eq!(upload(r#"{"filename":"o.png","type":"x"}"#).await.refusal(), "bad_original_ref");
    assert_eq!(upload("nonsense").await.refusal(), "bad_original_ref");
    assert_eq!(std::fs::read_dir(site.path("input")).unwrap().count(), 0);
}
