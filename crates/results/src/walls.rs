//! The walls of one machine: what limits how many connections it can hold, found before a run hits them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the layout of a diagnosis.
pub const SCHEMA: &str = "c10k-doctor/1";

/// Whether a machine can hold a number of connections, as written to a file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// [`SCHEMA`].
    pub schema: String,
    /// How many connections are asked for.
    pub connections: u64,
    /// Where the RAM of a connection is from.
    pub ram_source: String,
    /// Each server, with the wall that comes first.
    pub targets: Vec<TargetWalls>,
    /// All walls, of what is limited for all servers first.
    pub walls: Vec<Wall>,
}

/// What a machine allows one server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TargetWalls {
    /// The server's name.
    pub target: String,
    /// How many connections the lowest wall allows.
    pub allows: Option<u64>,
    /// The name of that wall.
    pub first: Option<String>,
    /// Whether that is enough.
    pub fits: bool,
}

/// Something that limits how many connections a machine can hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Wall {
    /// The kernel's name of it, where it has one.
    pub name: String,
    /// Which end of the connections it limits.
    pub side: Side,
    /// The servers that it limits; empty if it limits all.
    pub targets: Vec<String>,
    /// The limit, in units of its own.
    pub limit: u64,
    /// What these are.
    pub unit: String,
    /// How many connections it allows; `None` if it only slows down how fast they are made.
    pub allows: Option<u64>,
    /// Whether they are fewer than are asked for.
    pub is_hit: bool,
    /// Whether it was estimated from measured connections, and not read from the kernel.
    pub is_estimate: bool,
    /// What moves it; `None` if no setting does.
    pub remedy: Option<Remedy>,
}

/// An end of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The server's.
    Server,
    /// The load generator's.
    Client,
    /// Both, where both are on this machine.
    Both,
}

/// What moves a wall, far enough for the connections that are asked for; a wall that is not hit, to twice as many as it
/// allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remedy {
    /// A shell command.
    pub command: String,
    /// Whether this user may do that here.
    pub is_permitted: bool,
    /// Why not.
    pub why_not: Option<String>,
}

impl Wall {
    /// Whether it limits this server.
    pub fn concerns(&self, target: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|name| name == target)
    }
}

impl Diagnosis {
    /// The wall that comes first for a server: that which allows the fewest.
    pub fn first(&self, target: &str) -> Option<&Wall> {
        first(&self.walls, target)
    }

    /// Whether no wall is hit.
    pub fn fits(&self) -> bool {
        self.targets.iter().all(|target| target.fits)
    }
}

/// The wall that comes first for a server: that which allows the fewest.
pub fn first<'a>(walls: &'a [Wall], target: &str) -> Option<&'a Wall> {
    let limiting = walls.iter().filter(|wall| wall.concerns(target) && wall.allows.is_some());
    limiting.min_by_key(|wall| wall.allows)
}
