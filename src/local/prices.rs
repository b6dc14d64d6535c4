//! What AWS charges for a unit: one list, with its date and source. Whoever has another Region or
//! contract says other prices with `--read-price` and `--write-price`.
//!
//! Source: "Amazon DynamoDB pricing", on-demand capacity, standard table class, us-east-1, as it
//! has been since 2024-11-01.

/// Of what the list says.
pub const PRICES_OF: &str = "us-east-1, since 2024-11-01";
/// Dollars for a million read units.
pub const READ_PRICE: f64 = 0.125;
/// Dollars for a million write units.
pub const WRITE_PRICE: f64 = 0.625;
