//! The page of `--report` in a real browser.

mod browser;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use browser::Browser;

/// RAM, the two ledgers, throughput, percentiles, and the three charts over time.
const CHARTS: usize = 8;

/// Lists layout problems of the page at a width. The width is an argument because a phone's own answer is the width of
/// the page.
const LAYOUT_CHECK: &str = r"
width_px => {
    const problems = [];
    if (document.documentElement.scrollWidth > width_px) problems.push('the page scrolls sideways');
    const paper = getComputedStyle(document.body).backgroundColor;
    const isShown = element => getComputedStyle(element).display != 'none';
    const charts = [...document.querySelectorAll('figure > svg')].filter(isShown);
    for (const svg of charts) {
        const name = svg.getAttribute('aria-label');
        const { left, top, right, bottom, width, height } = svg.getBoundingClientRect();
        if (!width || !height) problems.push(`${name} is empty`);
        if (!name || !svg.querySelector('title')) problems.push(`a chart has no name: ${name}`);
        const labels = [...svg.querySelectorAll('text')].map(text => [text, text.getBoundingClientRect()]);
        labels.forEach(([text, box], index) => {
            const label = text.textContent.trim();
            if (box.left < left - 1 || box.right > right + 1 || box.top < top - 1 || box.bottom > bottom + 1)
                problems.push(`${name}: ${label} is cut off`);
            if (getComputedStyle(text).fill == paper) problems.push(`${name}: ${label} is invisible`);
            for (const [other, its] of labels.slice(index + 1)) {
                const [x, y] = [Math.min(box.right, its.right) - Math.max(box.left, its.left),
                                Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top)];
                if (x > 1 && y > 4) problems.push(`${name}: ${label} is over ${other.textContent.trim()}`);
            }
        });
    }
    return { charts: charts.length, problems };
}";

fn write_page(page: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let output = command.args(arguments).arg("--report").arg(page).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs chromium"]
fn the_page_fits_every_screen_and_loads_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.html");
    write_page(&page, &["--target", "all", "-c", "40", "-d", "2s", "--db-wait", "100ms"]);
    let url = format!("file://{}", page.display());
    let mut browser = Browser::start();
    for (width_px, scheme) in [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"), (320, "light")] {
        browser.show(&url, width_px, scheme);
        let layout = browser.evaluate(&format!("({LAYOUT_CHECK})({width_px})"));
        assert_eq!(layout["problems"], Value::Array(Vec::new()), "{width_px} px, {scheme}");
        assert_eq!(layout["charts"], CHARTS, "{width_px} px, {scheme}");
        let dark = browser.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)";
        assert_eq!(dark, scheme == "dark");
    }
    assert_eq!(browser.requests().iter().filter(|&request| *request != url).count(), 0, "{:?}", browser.requests());
    assert_eq!(browser.console_messages(), Vec::<Value>::new());
    assert!(browser.print().starts_with(b"%PDF"));
}

#[test]
#[ignore = "needs chromium"]
fn the_page_of_claims_fits_every_screen_and_loads_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.html");
    // A chart each of times, RAM, cycles and ratios.
    let only = "thread-switch,thread-memory,process-switch-tlb,thread-switch-faster";
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let output = command.args(["claims", "--quick", "--only", only, "--report"]).arg(&page).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let url = format!("file://{}", page.display());
    let mut browser = Browser::start();
    for (width_px, scheme) in [(1280, "light"), (390, "dark"), (320, "light")] {
        browser.show(&url, width_px, scheme);
        let layout = browser.evaluate(&format!("({LAYOUT_CHECK})({width_px})"));
        assert_eq!(layout["problems"], Value::Array(Vec::new()), "{width_px} px, {scheme}");
        assert!(layout["charts"].as_u64() >= Some(2), "{layout}");
    }
    assert_eq!(browser.requests().iter().filter(|&request| *request != url).count(), 0, "{:?}", browser.requests());
    assert!(browser.print().starts_with(b"%PDF"));
}

#[test]
fn a_single_server_has_a_page_without_scripts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page.html");
    write_page(&path, &["--target", "async", "-c", "20", "-d", "1s", "--db-wait", "exp:50ms"]);
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.contains("20 connections") && page.contains("async") && page.contains("exp:50ms"));
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("@import") && !page.contains("url("));
}
