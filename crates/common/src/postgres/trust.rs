//! What `sslmode` asks for, with libpq's names and meanings.

/// What a database has to show before it is believed that it is the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: nobody can read along, and anybody can pretend to be it.
    Anybody,
    /// A certificate that somebody in `sslrootcert` has signed.
    Signed,
    /// The same, and it is for the host's name.
    Named,
}

impl Trust {
    /// The meaning of a value of `sslmode`: `None` is no TLS.
    pub(super) fn of(sslmode: &str) -> Result<Option<Self>, &'static str> {
        match sslmode {
            "disable" | "allow" | "prefer" => Ok(None),
            "require" => Ok(Some(Self::Anybody)),
            "verify-ca" => Ok(Some(Self::Signed)),
            "verify-full" => Ok(Some(Self::Named)),
            _ => Err("sslmode may be disable, require, verify-ca or verify-full"),
        }
    }
}
