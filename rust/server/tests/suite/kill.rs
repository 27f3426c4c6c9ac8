//! `kill -9` at random moments. The server is this test binary again, running [`child_server`] only.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::get;
use super::nodes::one;
use super::server::{settings, start_on, store};

const FOLDER: &str = "RUSHLIGHT_TEST_CHILD_FOLDER";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_server() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let server = start_on(settings(), store(Path::new(&folder))).await;
    println!("\nADDR {}", server.addr());
    std::future::pending::<()>().await;
}

/// Starts the child and gives its address.
fn spawn(folder: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "suite::kill::child_server", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let addr = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("ADDR ")?.parse().ok());
    (child, addr.expect("the child says where it listens"))
}

/// Queues prompts until the server is gone; the ids that it acknowledged.
async fn submit_until_gone(addr: SocketAddr, round: usize) -> Vec<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut acknowledged = Vec::new();
    for index in 0.. {
        let id = format!("r{round}-{index}");
        let body = json!({"prompt": one("TestShow", json!({"value": index})), "prompt_id": id}).to_string();
        let text =
            format!("POST /prompt HTTP/1.0\r\nHost: {addr}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let exchange = async {
            let mut stream = tokio::net::TcpStream::connect(addr).await?;
            stream.write_all(text.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        match exchange.await {
            Ok(answer) if answer.contains(" 200 ") && answer.contains(&id) => acknowledged.push(id),
            _ => return acknowledged,
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_prompt_is_lost_or_finished_twice_when_the_process_is_killed() {
    let kills: usize =
        std::env::var("RUSHLIGHT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..kills {
        let (mut child, addr) = spawn(folder.path());
        let submitting = tokio::spawn(submit_until_gone(addr, round));
        // No generator is needed for moments that differ from round to round and machine to machine.
        let moment =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
        tokio::time::sleep(Duration::from_millis(u64::from(moment % 200))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(submitting.await.unwrap());
    }
    assert!(!acknowledged.is_empty());
    let (mut child, addr) = spawn(folder.path());
    while get(addr, "/prompt").await.json()["exec_info"]["queue_remaining"] != 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let history = get(addr, "/history").await.json();
    child.kill().unwrap();
    child.wait().unwrap();
    let history = history.as_object().unwrap();
    let finished: HashSet<&String> = history.keys().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !finished.contains(id)).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}", acknowledged.len());
    for (id, entry) in history {
        let messages = entry["status"]["messages"].as_array().unwrap();
        let terminal = |message: &&Value| {
            matches!(
                message[0].as_str(),
                Some("execution_success" | "execution_error" | "execution_interrupted")
            )
        };
        assert_eq!(messages.iter().filter(terminal).count(), 1, "{id}: {messages:?}");
    }
}
