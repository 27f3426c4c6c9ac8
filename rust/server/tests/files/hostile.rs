//! What an exposed server is sent: names that leave their folder, files that a browser would run, pictures that
//! unpack to more than there is memory.

use std::io::Write;

use serde_json::json;

use super::support::{Options, Site, png};

/// Names that must never reach a file.
const NAMES: [&str; 22] = [
    "../secret.txt",
    "..%2Fsecret.txt",
    "..%252Fsecret.txt",
    "%2e%2e%2fsecret.txt",
    "sub/../../secret.txt",
    "sub%2F..%2F..%2Fsecret.txt",
    "/etc/passwd",
    "%2Fetc%2Fpasswd",
    "//etc/passwd",
    "..%5Csecret.txt",
    "C:%5Cwindows%5Cwin.ini",
    "C:secret.txt",
    "a:b",
    "a.png%00.txt",
    "%00",
    "CON",
    "nul.png",
    "COM1.txt",
    "%5C%5Chost%5Cshare%5Cx",
    "a%0Ab",
    "a%1B%5B31m",
    "%2e%2e",
];

fn refused(status: u16) -> bool {
    status == 400 || status == 403
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_names_that_leave_their_folder_are_refused_everywhere() {
    let site = Site::start().await;
    site.put("secret.txt", "secret");
    site.put("user/secret.txt", "secret");
    for name in NAMES {
        for path in [
            format!("/view?filename={name}"),
            format!("/view?filename=a.png&subfolder={name}"),
            format!("/view?filename={name}%20%5Binput%5D"),
            format!("/userdata?dir={name}"),
            format!("/v2/userdata?path={name}"),
            format!("/view_metadata/loras?filename={name}.safetensors"),
        ] {
            // A device name or a dot with an extension behind it is another name.
            let other_name = path.starts_with("/view_metadata") && ["%2e%2e", "a%1B%5B31m"].contains(&name);
            let status = site.get(&path).await.status;
            assert!(refused(status) || (other_name && status == 404), "{path}: {status}");
        }
        let encoded = name.replace('/', "%2F");
        for (method, path) in [
            ("GET", format!("/userdata/{encoded}")),
            ("POST", format!("/userdata/{encoded}")),
            ("DELETE", format!("/userdata/{encoded}")),
            ("POST", format!("/userdata/a/move/{encoded}")),
            ("GET", format!("/internal/files/{encoded}")),
            ("GET", format!("/experiment/models/preview/loras/0/{encoded}")),
        ] {
            let status = site.send(method, &path, &[], b"x").await.status;
            assert!(refused(status), "{method} {path}: {status}");
        }
    }
    assert_eq!(site.read("user/secret.txt"), b"secret");
    assert!(
        !site.path("user/default").exists()
            || std::fs::read_dir(site.path("user/default")).unwrap().count() == 0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_uploads_with_such_names_are_refused() {
    let site = Site::start().await;
    let names =
        ["../x.png", "/tmp/x.png", "sub/../../x.png", "a:b.png", "..\\\\x.png", "nul.png", "..", ".", ""];
    for name in names {
        for route in ["/upload/image", "/upload/mask"] {
            let answer = site.upload(route, name, b"x", &[]).await;
            assert!(refused(answer.status), "{route} {name}: {}", answer.status);
        }
        let answer = site.upload("/upload/image", "a.png", b"x", &[("subfolder", name)]).await;
        let harmless = matches!(name, "" | ".");
        assert!(harmless || refused(answer.status), "subfolder {name}: {}", answer.status);
    }
    assert!(!site.path("x.png").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_a2_what_a_browser_could_run_is_a_download() {
    let site = Site::start().await;
    let script = "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>";
    for name in [
        "a.svg",
        "a.SVG",
        "a.svgz",
        "a.xml",
        "a.html",
        "a.htm",
        "a.xhtml",
        "a.js",
        "a.mjs",
        "a.css",
        "a.mhtml",
        "a.pdf",
        "a.swf",
        "a.txt",
        "a",
        "a.png",
        "a.jpg.html",
        "a.mp4",
        "a.json",
    ] {
        let uploaded = site.upload("/upload/image", name, script.as_bytes(), &[]).await;
        assert_eq!(uploaded.status, 200, "any file may be kept");
        let answer = site.get(&format!("/view?filename={name}&type=input")).await;
        answer.assert_download();
        // Plain data keeps its type: nothing runs it, and `nosniff` keeps it so.
        let kind = match name {
            "a.txt" => "text/plain; charset=utf-8",
            "a.json" => "application/json",
            _ => "application/octet-stream",
        };
        assert_eq!(answer.header("content-type"), Some(kind), "{name}");
        assert_eq!(answer.text(), script);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_an_svg_is_shown_only_inside_an_image_element() {
    let site = Site::start().await;
    site.put("output/a.svg", "<svg/>");
    let dest = |dest: &'static str| {
        let site = &site;
        async move { site.send("GET", "/view?filename=a.svg", &[("Sec-Fetch-Dest", dest)], b"").await }
    };
    let image = dest("image").await;
    assert_eq!(image.header("content-type"), Some("image/svg+xml"));
    assert_eq!(image.header("vary"), Some("Sec-Fetch-Dest"));
    assert_eq!(image.header("cache-control"), Some("no-store"));
    assert!(image.header("content-security-policy").unwrap().contains("sandbox"));
    for other in ["document", "iframe", "object", "embed", "frame", "empty"] {
        dest(other).await.assert_download();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_user_data_is_a_download() {
    let site = Site::start().await;
    site.post("/userdata/x.html", "<script>alert(1)</script>").await;
    let answer = site.get("/userdata/x.html").await;
    answer.assert_download();
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert!(answer.header("content-security-policy").unwrap().contains("sandbox"));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_a10_links_that_lead_out_are_refused_unless_allowed() {
    use std::os::unix::fs::symlink;
    for follow_symlinks in [false, true] {
        let site = Site::with(Options { follow_symlinks, ..Options::default() }).await;
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.txt"), "secret").unwrap();
        symlink(outside.path(), site.path("output/link")).unwrap();
        symlink(outside.path().join("secret.txt"), site.path("output/file.txt")).unwrap();
        symlink(site.path("input"), site.path("output/inputs")).unwrap();
        site.put("input/a.txt", "a");
        std::fs::create_dir_all(site.path("user/default")).unwrap();
        symlink(outside.path(), site.path("user/default/link")).unwrap();
        let expected = if follow_symlinks { 200 } else { 403 };
        for path in [
            "/view?filename=secret.txt&subfolder=link",
            "/view?filename=link%2Fsecret.txt",
            "/view?filename=file.txt",
            "/userdata/link%2Fsecret.txt",
        ] {
            assert_eq!(site.get(path).await.status, expected, "{path}");
        }
        let wrote = site.post("/userdata/link%2Fnew.txt", "x").await.status;
        let uploaded =
            site.upload("/upload/image", "up.png", b"x", &[("type", "output"), ("subfolder", "link")]).await;
        assert_eq!((wrote, uploaded.status), (expected, expected));
        assert_eq!(outside.path().join("new.txt").exists(), follow_symlinks);
        assert_eq!(
            site.get("/view?filename=a.txt&subfolder=inputs").await.text(),
            "a",
            "a configured folder"
        );
        let host = rushlight_server::FolderHost::new(site.folders.clone(), vec![], true, 1);
        let read = rushlight_runtime::Host::read(&host, "file.txt [output]");
        assert_eq!(read.is_ok(), follow_symlinks);
        for name in ["../secret.txt", "/etc/passwd"] {
            assert!(rushlight_runtime::Host::read(&host, name).is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refusal_tells_where_folders_are() {
    let site = Site::start().await;
    let base = site.path("").to_string_lossy().into_owned();
    for folder in ["output", "temp"] {
        let _ = std::fs::remove_dir_all(site.path(folder));
    }
    for path in [
        "/view?filename=none.png",
        "/view?filename=none.png&type=temp",
        "/view?filename=none.png&subfolder=sub",
        "/userdata/none.json",
        "/userdata?dir=none",
        "/v2/userdata?path=none",
        "/models/none",
        "/view_metadata/checkpoints?filename=none.safetensors",
        "/experiment/models/preview/checkpoints/0/none.png",
        "/templates/none",
        "/docs/none",
    ] {
        let answer = site.get(path).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status >= 400 && !text.contains(base.trim_end_matches('/')), "{path}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a12_prefixes_that_leave_the_output_folder_are_refused() {
    use rushlight_runtime::Host;
    let site = Site::start().await;
    let host = rushlight_server::FolderHost::new(site.folders.clone(), vec![], true, 1);
    for prefix in ["../x", "/tmp/x", "a/../../x", "..\\x", "C:\\x", "~/../x"] {
        assert!(host.check_prefix(prefix).is_err(), "{prefix}");
    }
    for prefix in ["x", "%date:yyyy-MM-dd%/x", "a\\b"] {
        assert!(host.check_prefix(prefix).is_ok(), "{prefix}");
    }
}

/// A PNG that claims a size and holds a few rows of zeros.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png_encoder(&mut out, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().unwrap();
    // One compressed block of nothing: decoders allocate by the header.
    let _ = writer.write_chunk(png::chunk::IDAT, b"\x78\x9c\x03\0\0\0\0\x01");
    drop(writer);
    out
}

fn png_encoder(out: &mut Vec<u8>, width: u32, height: u32) -> png::Encoder<'_, &mut Vec<u8>> {
    png::Encoder::new(out, width, height)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_pictures_over_the_pixel_limit_are_kept_but_not_decoded() {
    let site = Site::start().await;
    for side in [13_000, 20_000] {
        let file = bomb(side, side);
        assert!(file.len() < 20_000);
        let name = format!("{side}.png");
        assert_eq!(site.upload("/upload/image", &name, &file, &[]).await.status, 200);
        for query in ["preview=webp", "channel=rgb", "channel=a"] {
            let answer = site.get(&format!("/view?filename={name}&type=input&{query}")).await;
            assert_eq!((answer.status, answer.refusal().as_str()), (413, "image_too_large"), "{query}");
        }
        assert_eq!(site.get(&format!("/view?filename={name}&type=input")).await.status, 200);
        let reference = json!({ "filename": name, "type": "input" }).to_string();
        let answer =
            site.upload("/upload/mask", "m.png", &png(1, 1, [0; 4]), &[("original_ref", &reference)]).await;
        assert_eq!(answer.refusal(), "image_too_large");
    }
    let site = Site::with(Options { max_pixels: Some(100), ..Options::default() }).await;
    site.put("output/a.png", png(10, 10, [0; 4]));
    site.put("output/b.png", png(11, 10, [0; 4]));
    assert_eq!(site.get("/view?filename=a.png&preview=jpeg").await.status, 200);
    assert_eq!(site.get("/view?filename=b.png&preview=jpeg").await.status, 413, "the limit is an option");
}

/// A PNG with a chunk that unpacks to `unpacked` zeros.
fn with_packed_chunk(kind: &[u8; 4], head: &[u8], unpacked: usize) -> Vec<u8> {
    let mut packed = Vec::new();
    {
        let mut zlib = flate2::write::ZlibEncoder::new(&mut packed, flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..unpacked >> 20 {
            zlib.write_all(&zeros).unwrap();
        }
    }
    let mut out = Vec::new();
    let mut encoder = png_encoder(&mut out, 2, 2);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_chunk(png::chunk::ChunkType(*kind), &[head, &packed].concat()).unwrap();
    writer.write_image_data(&[1, 2, 3, 4]).unwrap();
    drop(writer);
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_chunks_that_unpack_to_much_do_no_harm() {
    let site = Site::start().await;
    let before = resident();
    for (name, kind, head) in [
        ("text.png", b"zTXt", &b"k\0\0"[..]),
        ("itxt.png", b"iTXt", b"k\0\x01\0\0\0"),
        ("icc.png", b"iCCP", b"k\0\0"),
    ] {
        let file = with_packed_chunk(kind, head, 160 << 20);
        assert!(file.len() < 1 << 20);
        assert_eq!(site.upload("/upload/image", name, &file, &[]).await.status, 200);
        let answer = site.get(&format!("/view?filename={name}&type=input&preview=webp")).await;
        assert!(answer.status == 200 || answer.refusal() == "not_an_image", "{name}: {}", answer.status);
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        assert!(after.saturating_sub(before) < 128 << 20, "{} bytes more are held", after - before);
    }
}

/// Bytes of memory of this process, where that can be asked.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_animations_are_previewed_by_their_first_frame() {
    let site = Site::start().await;
    let mut file = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut file);
        for shade in 0..200_u8 {
            let frame = image::RgbaImage::from_pixel(64, 64, image::Rgba([shade, 0, 0, 255]));
            encoder.encode_frame(image::Frame::new(frame)).unwrap();
        }
    }
    site.put("output/a.gif", &file);
    let preview = site.get("/view?filename=a.gif&preview=webp").await.image().into_rgb8();
    assert_eq!(preview.get_pixel(3, 3).0, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_what_is_no_picture_is_a_typed_refusal_when_decoded() {
    let site = Site::start().await;
    let whole = png(40, 40, [1, 2, 3, 255]);
    for (name, content) in [
        ("text.png", &b"not a picture"[..]),
        ("cut.png", &whole[..whole.len() / 2]),
        ("empty.png", b""),
        ("zip.png", b"PK\x03\x04"),
    ] {
        assert_eq!(site.upload("/upload/image", name, content, &[]).await.status, 200);
        let answer = site.get(&format!("/view?filename={name}&type=input&preview=webp")).await;
        assert_eq!((answer.status, answer.refusal().as_str()), (415, "not_an_image"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a19_from_afar_internals_need_a_token() {
    let Some(address) = own_address() else { return };
    for tokens in [vec![], vec!["secret".to_owned()]] {
        let mut options = Options::default();
        options.settings.argv = vec!["--secret".into()];
        options.settings.api_tokens = tokens.clone();
        options.open = true;
        let site = Site::with(options).await;
        let path =
            |path: &str| if tokens.is_empty() { path.to_owned() } else { format!("{path}?token=secret") };
        let expected = if tokens.is_empty() { 403 } else { 200 };
        for route in
            ["/internal/logs", "/internal/logs/raw", "/internal/folder_paths", "/internal/files/output"]
        {
            for route in [route.to_owned(), format!("/api{route}")] {
                let status = site.get_from(address, &path(&route)).await.status;
                assert_eq!(status, expected, "{route} with {tokens:?}");
            }
        }
        let stats = site.get_from(address, &path("/system_stats")).await.json();
        let argv = if tokens.is_empty() { json!([]) } else { json!(["--secret"]) };
        assert_eq!(stats["system"]["argv"], argv);
        assert_eq!(site.get(&path("/internal/logs")).await.status, 200, "this machine may ask");
    }
}

/// An address of this machine that is not loopback, if it has one.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: connecting picks the address that would be sent from.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}
