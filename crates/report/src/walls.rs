//! The walls of a machine as text.

use quantity::format::{self, UNKNOWN};
use results::walls::{Diagnosis, Remedy, Side, TargetWalls, Wall};

use crate::table::table_of;

/// A wall that is hit, and what to do about it, without a full stop.
pub fn sentence(wall: &Wall) -> String {
    let allows = wall.allows.map_or(UNKNOWN.to_owned(), |allows| format::count(allows as f64));
    let about = if wall.is_estimate { "about " } else { "" };
    let of = if wall.targets.is_empty() { String::new() } else { format!(" of {}", wall.targets.join(", ")) };
    let head = format!("{} ({}) allows {about}{allows} connections{of}", name(wall), limit(wall));
    match &wall.remedy {
        None => format!("{head}, and no setting moves it"),
        Some(remedy) => format!("{head}; to move it: {}", command(remedy)),
    }
}

/// A table of all walls, the answer for each server, and what moves those that are hit or come first.
pub fn text(diagnosis: &Diagnosis) -> String {
    let at = format!("at {}", format::count(diagnosis.connections as f64));
    let table =
        table_of(["limit", "is", "concerns", "allows", &at], diagnosis.walls.iter().map(|wall| row(wall, diagnosis)));
    let answers: String = diagnosis.targets.iter().map(|target| answer(target, diagnosis) + "\n").collect();
    format!("{table}\n{answers}{}\nRAM: {}.\n", remedies(diagnosis), diagnosis.ram_source)
}

fn row(wall: &Wall, diagnosis: &Diagnosis) -> [String; 5] {
    let verdict = match (wall.allows, &wall.remedy) {
        (None, Some(_)) => "slower",
        _ if wall.is_hit => "too low",
        _ => "fits",
    };
    let about = if wall.is_estimate { "~" } else { "" };
    let allows = wall.allows.map_or(UNKNOWN.to_owned(), |allows| format!("{about}{}", format::count(allows as f64)));
    // The whole name is in the command that moves it.
    let short = name(wall).rsplit('.').next().unwrap_or_default().to_owned();
    [short, limit(wall), concerns(wall, diagnosis), allows, verdict.to_owned()]
}

/// Which end it limits, and with several servers asked for, which of them.
fn concerns(wall: &Wall, diagnosis: &Diagnosis) -> String {
    let side = match wall.side {
        Side::Client => "client",
        Side::Server => "server",
        Side::Both => "both ends",
    };
    let is_of_all = wall.targets.is_empty() || wall.targets.len() == diagnosis.targets.len();
    if is_of_all { side.to_owned() } else { wall.targets.join(", ") }
}

fn name(wall: &Wall) -> String {
    match wall.side {
        Side::Client if wall.name == "open files" => "open files, client".to_owned(),
        Side::Server if wall.name == "open files" => "open files, server".to_owned(),
        _ => wall.name.clone(),
    }
}

fn limit(wall: &Wall) -> String {
    match wall.unit.as_str() {
        "bytes" => format!("{} free", format::short_bytes(wall.limit as f64)),
        unit => format!("{} {unit}", format::count(wall.limit as f64)),
    }
}

fn answer(target: &TargetWalls, diagnosis: &Diagnosis) -> String {
    let TargetWalls { target: name, allows, .. } = target;
    let Some((first, allows)) = diagnosis.first(name).zip(*allows) else {
        return format!("{name}: no limit could be read.");
    };
    let verdict = if target.fits { "fits" } else { "does not fit" };
    let about = if first.is_estimate { "about " } else { "" };
    let allows = format::count(allows as f64);
    format!("{name}: {verdict}; first comes {}, at {about}{allows} connections.", self::name(first))
}

/// What moves the walls that are hit, and those that come first; each once.
fn remedies(diagnosis: &Diagnosis) -> String {
    let firsts: Vec<_> = diagnosis.targets.iter().filter_map(|target| diagnosis.first(&target.target)).collect();
    let is_shown = |wall: &&Wall| wall.is_hit || firsts.contains(wall);
    let mut lines: Vec<String> = Vec::new();
    for wall in diagnosis.walls.iter().filter(is_shown) {
        let how = wall.remedy.as_ref().map_or("no setting moves it".to_owned(), command);
        let line = format!("  {}: {how}\n", name(wall));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() { String::new() } else { format!("\nTo move them:\n{}", lines.concat()) }
}

fn command(remedy: &Remedy) -> String {
    match &remedy.why_not {
        None => format!("`{}`", remedy.command),
        Some(why_not) => format!("`{}`, which this user may not ({why_not})", remedy.command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(name: &str, side: Side, targets: &[&str], allows: Option<u64>) -> Wall {
        Wall {
            name: name.into(),
            side,
            targets: targets.iter().map(ToString::to_string).collect(),
            limit: 20_000,
            unit: "files".into(),
            allows,
            is_hit: allows.is_some_and(|allows| allows < 30_000),
            is_estimate: name == "RAM",
            remedy: (name != "RAM").then(|| Remedy {
                command: "ulimit -Hn 31200".into(),
                is_permitted: false,
                why_not: Some("only root may".into()),
            }),
        }
    }

    fn diagnosis() -> Diagnosis {
        let target = |target: &str, first: &str, allows, fits| TargetWalls {
            target: target.into(),
            allows: Some(allows),
            first: Some(first.into()),
            fits,
        };
        Diagnosis {
            schema: results::walls::SCHEMA.into(),
            connections: 30_000,
            ram_source: "as recorded".into(),
            targets: vec![target("threads", "open files", 18_800, false), target("prefork", "RAM", 40_000, true)],
            walls: vec![
                wall("net.core.somaxconn", Side::Server, &[], None),
                wall("open files", Side::Server, &["threads"], Some(18_800)),
                wall("RAM", Side::Both, &["threads", "prefork"], Some(40_000)),
            ],
        }
    }

    #[test]
    fn the_text_says_what_comes_first_and_what_moves_it() {
        let text = text(&diagnosis());
        for expected in [
            "open files, server",
            "too low",
            "~40,000",
            "slower",
            " somaxconn ",
            "threads: does not fit; first comes open files, server, at 18,800 connections.",
            "prefork: fits; first comes RAM, at about 40,000 connections.",
            "  open files, server: `ulimit -Hn 31200`, which this user may not (only root may)\n",
            "  RAM: no setting moves it\n",
            "\nRAM: as recorded.\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert_eq!(text.matches("To move them").count(), 1);
    }

    #[test]
    fn a_wall_is_a_sentence() {
        let said = sentence(&wall("open files", Side::Client, &[], Some(4_032)));
        assert!(said.starts_with("open files, client (20,000 files) allows 4,032 connections; to move it"), "{said}");
        let said = sentence(&wall("RAM", Side::Both, &["prefork"], Some(7)));
        assert_eq!(said, "RAM (20,000 files) allows about 7 connections of prefork, and no setting moves it");
    }
}
