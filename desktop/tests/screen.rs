//! The program in a real window on a screen without a screen (Xvfb): it loads SmolLM2, answers, and leaves a picture.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends a program when the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A screen of its own, and its name.
fn screen() -> (Running, String) {
    // -displayfd lets the server choose a number that nobody has and say it when it is ready.
    let mut server = Command::new("Xvfb")
        .args(["-screen", "0", "1280x860x24", "-nolisten", "tcp", "-displayfd", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("Xvfb is missing: `cargo xtask test --only desktop` installs it on Debian and Ubuntu");
    let stdout = server.stdout.take().expect("piped");
    let running = Running(server);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("its number");
    assert!(!line.trim().is_empty(), "Xvfb ended before it was ready");
    (running, format!(":{}", line.trim()))
}

/// Processor time of a process so far, in seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    // Linux counts in hundredths of a second on every system in use (USER_HZ).
    ticks as f64 / 100.0
}

fn picture() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    folder.join("desktop.png")
}

#[test]
fn a_window_loads_smollm2_answers_and_is_still_when_idle() {
    let (_server, display) = screen();
    let (folder, picture) = (tempfile::tempdir().expect("a temporary folder"), picture());
    let _ = std::fs::remove_file(&picture);
    std::fs::write(
        folder.path().join("desktop.json"),
        r#"{"theme":"light","window":[1100.0,720.0],"answering":{"temperature":0.0,"maxTokens":200}}"#,
    )
    .expect("written");
    let program = Command::new(env!("CARGO_BIN_EXE_adapter-desktop"))
        .arg("--model")
        .arg(adapter_tests::smollm2_path())
        .arg("--folder")
        .arg(folder.path())
        .args(["--ask", "Explain recursion with a short Python example."])
        .arg("--screenshot")
        .arg(&picture)
        .env("DISPLAY", display)
        .env_remove("WAYLAND_DISPLAY")
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the program");
    let mut program = Running(program);
    let start = Instant::now();
    while !picture.is_file() {
        assert!(program.0.try_wait().expect("asked").is_none(), "the window closed before it answered");
        assert!(start.elapsed() < Duration::from_secs(240), "no picture after {:?}", start.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(500));
    let image = image::open(&picture).expect("a whole PNG").to_rgb8();
    let colours: std::collections::HashSet<_> = image.pixels().map(|pixel| pixel.0).collect();
    assert!(
        image.width() > 800 && colours.len() > 50,
        "{} colours in {}x{}",
        colours.len(),
        image.width(),
        image.height()
    );

    assert_eq!((image.width(), image.height()), (1100, 720), "the size it was left with");

    // The chat is on disk while the window is open.
    let chats: Vec<_> = std::fs::read_dir(folder.path().join("chats")).expect("there").flatten().collect();
    let text = std::fs::read_to_string(chats[0].path()).expect("readable");
    assert!(text.contains("Explain recursion") && text.contains("\"role\":\"assistant\""), "{text}");

    let figures: serde_json::Value =
        serde_json::from_slice(&std::fs::read(picture.with_extension("json")).expect("there")).expect("JSON");
    let mut times: Vec<f64> =
        figures["frame_ms"].as_array().expect("a list").iter().filter_map(serde_json::Value::as_f64).collect();
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    eprintln!("{} frames in a real window: median {median:.2} ms", times.len());

    // Nothing changes any more: nothing may be drawn.
    std::thread::sleep(Duration::from_secs(2));
    let (before, since) = (cpu_seconds(program.0.id()), Instant::now());
    std::thread::sleep(Duration::from_secs(6));
    let share = (cpu_seconds(program.0.id()) - before) / since.elapsed().as_secs_f64() * 100.0;
    eprintln!("idle: {share:.2} % of a core");
    assert!(share < 2.0, "an idle window takes {share:.2} % of a core");
}

/// Without a screen, or with one that does not answer, the reason is said in words.
#[test]
fn without_a_screen_the_reason_is_said_in_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for display in [None, Some(""), Some(":65432")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adapter-desktop"));
        command.arg("--folder").arg(folder.path()).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        command.env_remove("WAYLAND_SOCKET");
        if let Some(display) = display {
            command.env("DISPLAY", display);
        }
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("error: there is no screen") && said.contains("hint: "), "{display:?}: {said}");
        assert!(said.contains("DISPLAY") && said.contains("adapter-cli chat"), "{display:?}: {said}");
        for word in [".rs", "winit", "panicked", "OsError"] {
            assert!(!said.contains(word), "{display:?}: {said}");
        }
    }
}
