//! `/view`.

use super::support::{Site, png};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_is_sent_inline_with_its_name() {
    let site = Site::start().await;
    let file = png(4, 3, [1, 2, 3, 255]);
    site.put("output/sub/a.png", &file);
    for path in [
        "/view?filename=a.png&subfolder=sub&type=output",
        "/api/view?filename=a.png&subfolder=sub&rand=0.5",
        "/view?filename=sub%2Fa.png",
        "/view?filename=a.png%20%5Boutput%5D&subfolder=sub&type=input",
    ] {
        let answer = site.get(path).await;
        assert_eq!((answer.status, &answer.body), (200, &file), "{path}");
        assert_eq!(answer.header("content-type"), Some("image/png"));
        assert_eq!(answer.header("content-disposition"), Some("filename=\"a.png\""));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_type_has_its_folder() {
    let site = Site::start().await;
    for folder in ["input", "output", "temp"] {
        site.put(&format!("{folder}/a.bin"), folder);
        assert_eq!(site.get(&format!("/view?filename=a.bin&type={folder}")).await.text(), folder);
    }
    assert_eq!(site.get("/view?filename=a.bin&type=models").await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_files_and_names_have_their_status() {
    let site = Site::start().await;
    assert_eq!(site.get("/view").await.refusal(), "no_filename");
    assert_eq!(site.get("/view?filename=none.png").await.status, 404);
    assert_eq!(site.get("/view?filename=").await.status, 400);
    assert_eq!(site.get("/view?filename=..%2Fa.png").await.status, 400);
    assert_eq!(site.get("/view?filename=%2Fetc%2Fpasswd").await.status, 400);
    assert_eq!(site.get("/view?filename=a.png&subfolder=..%2F..").await.status, 403);
    site.put("output/folder/a.png", "");
    assert_eq!(site.get("/view?filename=folder").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_and_conditions_are_honoured() {
    let site = Site::start().await;
    site.put("output/a.bin", "0123456789");
    let range = |range: &'static str| {
        let site = &site;
        async move { site.send("GET", "/view?filename=a.bin", &[("Range", range)], b"").await }
    };
    let part = range("bytes=2-4").await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(part.header("content-length"), Some("3"));
    assert_eq!(range("bytes=-3").await.text(), "789");
    assert_eq!(range("bytes=99-").await.status, 416);
    assert_eq!(range("bytes=0-1,3-4").await.status, 200);
    let whole = site.get("/view?filename=a.bin").await;
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let etag = whole.header("etag").unwrap();
    let again = site.send("GET", "/view?filename=a.bin", &[("If-None-Match", etag)], b"").await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let stale = [("Range", "bytes=2-4"), ("If-Range", "\"other\"")];
    assert_eq!(site.send("GET", "/view?filename=a.bin", &stale, b"").await.status, 200);
    let head = site.send("HEAD", "/view?filename=a.bin", &[], b"").await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("10")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn previews_are_encoded_anew() {
    let site = Site::start().await;
    site.put("output/a.png", png(20, 10, [200, 100, 50, 255]));
    for (preview, mime, format) in [
        ("webp", "image/webp", image::ImageFormat::WebP),
        ("webp;80", "image/webp", image::ImageFormat::WebP),
        ("jpeg;60", "image/jpeg", image::ImageFormat::Jpeg),
        ("unknown", "image/webp", image::ImageFormat::WebP),
    ] {
        let answer = site.get(&format!("/view?filename=a.png&preview={preview}")).await;
        assert_eq!(answer.header("content-type"), Some(mime), "{preview}");
        assert_eq!(image::guess_format(&answer.body).unwrap(), format);
        let image = answer.image().into_rgb8();
        assert_eq!(image.dimensions(), (20, 10));
        assert!(image.get_pixel(5, 5).0.iter().zip([200_u8, 100, 50]).all(|(a, b)| a.abs_diff(b) < 4));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webp_preview_has_the_quality_asked_for() {
    let site = Site::start().await;
    let noise = image::RgbImage::from_fn(96, 96, |x, y| {
        image::Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (x * 13 + y * y) as u8])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    noise.write_to(&mut file, image::ImageFormat::Png).unwrap();
    site.put("output/a.png", file.into_inner());
    let length =
        async |quality| site.get(&format!("/view?filename=a.png&preview=webp;{quality}")).await.body.len();
    let (low, high) = (length(10).await, length(95).await);
    assert!(2 * low < high, "{low} {high}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_are_taken_apart() {
    let site = Site::start().await;
    site.put("output/a.png", png(2, 2, [9, 8, 7, 100]));
    let rgb = site.get("/view?filename=a.png&channel=rgb").await;
    assert_eq!(rgb.header("content-type"), Some("image/png"));
    let rgb = rgb.image();
    assert!(!rgb.color().has_alpha());
    assert_eq!(rgb.to_rgb8().get_pixel(0, 0).0, [9, 8, 7]);
    let alpha = site.get("/view?filename=a.png&channel=a").await.image();
    assert_eq!(alpha.to_rgba8().get_pixel(0, 0).0, [0, 0, 0, 100]);
    assert_eq!(site.get("/view?filename=a.png&channel=rgba").await.body, site.read("output/a.png"));
    assert_eq!(site.get("/view?filename=a.png&channel=x").await.status, 400);
}
