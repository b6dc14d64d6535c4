//! Events as Lambda sends them: compact JSON, made from a seed.
//!
//! An order has 13 attributes: four strings, three numbers, a boolean, a map of three, a list
//! of one to three maps, a string set, binary, and a string or NULL; some strings have escapes
//! or are not ASCII. A quarter of the DynamoDB records are inserts, a tenth removals. A Kinesis
//! record's data is a JSON document of 300 to 1,000 bytes.

use base64_simd::STANDARD;
use fastrand::Rng;
use serde::{Serialize, Serializer};

/// Lambda's limit on a payload, less what a margin of safety is.
const BYTES_MAX: usize = 6 * 1024 * 1024 - 1024;

/// How large an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// A thousand records.
    Thousand,
    /// As many records as fit in 6 MB.
    SixMegabytes,
}

impl Size {
    pub(crate) const ALL: [Self; 2] = [Self::Thousand, Self::SixMegabytes];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Thousand => "1,000 records",
            Self::SixMegabytes => "6 MB",
        }
    }
}

/// An event's bytes, and how many records it has.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: usize,
}

pub(crate) fn dynamodb(size: Size) -> Payload {
    event(size, dynamodb_record)
}

pub(crate) fn kinesis(size: Size) -> Payload {
    event(size, kinesis_record)
}

fn event(size: Size, record: fn(&mut Rng, u64) -> Json) -> Payload {
    let mut rng = Rng::with_seed(42);
    let mut bytes = b"{\"Records\":[".to_vec();
    let mut records = 0;
    loop {
        let text = serde_json::to_string(&record(&mut rng, records as u64)).unwrap();
        let is_full = match size {
            Size::Thousand => records == 1000,
            Size::SixMegabytes => bytes.len() + text.len() + 3 > BYTES_MAX,
        };
        if is_full {
            break;
        }
        if records > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(text.as_bytes());
        records += 1;
    }
    bytes.extend_from_slice(b"]}");
    Payload { bytes, records }
}

const CITIES: &[&str] =
    &["Berlin", "Paris", "Zürich", "Warszawa", "Milano", "Wien", "Lisboa", "Oslo"];
const STATUS: &[&str] = &["NEW", "PAID", "PICKED", "SHIPPED", "DELIVERED", "CANCELLED"];
const TAGS: &[&str] = &["b2b", "express", "fragile", "gift", "prime", "promo", "vip"];
const NOTES: &[&str] = &[
    "leave at the door",
    "call before delivery",
    "say \"hello\" to the dog",
    "2nd floor\nleft side",
    "ring twice",
];

/// JSON whose members stay in the order written, as services send them.
#[derive(Debug, Clone)]
enum Json {
    Null,
    Bool(bool),
    Whole(u64),
    Decimal(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Whole(value) => serializer.serialize_u64(*value),
            Self::Decimal(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(values) => serializer.collect_seq(values),
            Self::Object(members) => serializer.collect_map(members.iter().map(|(k, v)| (k, v))),
        }
    }
}

fn text(value: impl Into<String>) -> Json {
    Json::Text(value.into())
}

fn object<const N: usize>(members: [(&'static str, Json); N]) -> Json {
    Json::Object(members.into())
}

/// What both notations tell of an order.
#[derive(Debug, Clone)]
struct Order {
    customer: String,
    number: String,
    status: &'static str,
    total_cents: u32,
    created_at: u64,
    paid: bool,
    version: u64,
    street: String,
    city: &'static str,
    zip: String,
    lines: Vec<Line>,
    tags: Vec<&'static str>,
    signature: String,
    note: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct Line {
    sku: String,
    quantity: u64,
    price_cents: u32,
}

fn decimal(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn one(rng: &mut Rng, of: &[&'static str]) -> &'static str {
    of[rng.usize(..of.len())]
}

fn order(rng: &mut Rng, index: u64) -> Order {
    let lines = (0..rng.u32(1..=3)).map(|_| Line {
        sku: format!("SKU-{:05}", rng.u32(..99_999)),
        quantity: rng.u64(1..=5),
        price_cents: rng.u32(100..20_000),
    });
    let lines = lines.collect();
    let count = rng.usize(1..=3);
    let mut tags = rng.choose_multiple(TAGS.iter().copied(), count);
    tags.sort_unstable();
    let signature: Vec<u8> = (0..16).map(|_| rng.u8(..)).collect();
    Order {
        customer: format!("CUST#{:06}", rng.u32(..1000)),
        number: format!("ORDER#{index:010}"),
        status: one(rng, STATUS),
        total_cents: rng.u32(100..99_999),
        created_at: 1_767_312_000_000 + index * 37,
        paid: rng.u32(..10) < 7,
        version: rng.u64(1..=40),
        street: format!("Main St. {}", rng.u32(..300)),
        city: one(rng, CITIES),
        zip: format!("{:05}", rng.u32(..99_999)),
        lines,
        tags,
        signature: STANDARD.encode_to_string(signature),
        note: (rng.u32(..10) < 6).then(|| one(rng, NOTES)),
    }
}

/// A member of an item, or an element, as DynamoDB writes it.
fn tagged(tag: &'static str, content: Json) -> Json {
    object([(tag, content)])
}

/// An order as DynamoDB writes it.
fn image(order: &Order) -> Json {
    let s = |value: &str| tagged("S", text(value));
    let n = |value: String| tagged("N", text(value));
    let line = |line: &Line| {
        let members = object([
            ("sku", s(&line.sku)),
            ("qty", n(line.quantity.to_string())),
            ("price", n(decimal(line.price_cents))),
        ]);
        tagged("M", members)
    };
    let address =
        object([("street", s(&order.street)), ("city", s(order.city)), ("zip", s(&order.zip))]);
    object([
        ("pk", s(&order.customer)),
        ("sk", s(&order.number)),
        ("status", s(order.status)),
        ("total", n(decimal(order.total_cents))),
        ("currency", s("EUR")),
        ("createdAt", n(order.created_at.to_string())),
        ("paid", tagged("BOOL", Json::Bool(order.paid))),
        ("version", n(order.version.to_string())),
        ("address", tagged("M", address)),
        ("items", tagged("L", Json::List(order.lines.iter().map(line).collect()))),
        ("tags", tagged("SS", Json::List(order.tags.iter().copied().map(text).collect()))),
        ("sig", tagged("B", text(&*order.signature))),
        ("note", order.note.map_or_else(|| tagged("NULL", Json::Bool(true)), s)),
    ])
}

fn dynamodb_record(rng: &mut Rng, index: u64) -> Json {
    let new = order(rng, index);
    let name = match rng.u32(..100) {
        0..25 => "INSERT",
        25..90 => "MODIFY",
        _ => "REMOVE",
    };
    let keys = object([
        ("sk", tagged("S", text(&*new.number))),
        ("pk", tagged("S", text(&*new.customer))),
    ]);
    let mut change = vec![
        ("ApproximateCreationDateTime", Json::Whole(1_767_312_000 + index / 50)),
        ("Keys", keys),
    ];
    if name != "REMOVE" {
        change.push(("NewImage", image(&new)));
    }
    if name != "INSERT" {
        let status = one(rng, STATUS);
        let version = new.version.max(2) - 1;
        change.push(("OldImage", image(&Order { status, paid: false, version, ..new })));
    }
    let number = 111_100_000_000_000_000_000_000 + u128::from(index) * 1009;
    change.push(("SequenceNumber", text(number.to_string())));
    change.push(("SizeBytes", Json::Whole(rng.u64(400..900))));
    change.push(("StreamViewType", text("NEW_AND_OLD_IMAGES")));
    let stream =
        "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000";
    object([
        ("eventID", text(format!("{:032x}", rng.u128(..)))),
        ("eventName", text(name)),
        ("eventVersion", text("1.1")),
        ("eventSource", text("aws:dynamodb")),
        ("awsRegion", text("eu-west-1")),
        ("dynamodb", Json::Object(change)),
        ("eventSourceARN", text(stream)),
    ])
}

/// An order as a plain document.
fn document(order: &Order, pad: usize) -> Json {
    let money = |cents: u32| Json::Decimal(f64::from(cents) / 100.0);
    let line = |line: &Line| {
        object([
            ("sku", text(&*line.sku)),
            ("qty", Json::Whole(line.quantity)),
            ("price", money(line.price_cents)),
        ])
    };
    let address = object([
        ("street", text(&*order.street)),
        ("city", text(order.city)),
        ("zip", text(&*order.zip)),
    ]);
    object([
        ("pk", text(&*order.customer)),
        ("sk", text(&*order.number)),
        ("status", text(order.status)),
        ("total", money(order.total_cents)),
        ("currency", text("EUR")),
        ("createdAt", Json::Whole(order.created_at)),
        ("paid", Json::Bool(order.paid)),
        ("version", Json::Whole(order.version)),
        ("address", address),
        ("items", Json::List(order.lines.iter().map(line).collect())),
        ("tags", Json::List(order.tags.iter().copied().map(text).collect())),
        ("sig", text(&*order.signature)),
        ("note", order.note.map_or(Json::Null, text)),
        ("pad", text("x".repeat(pad))),
    ])
}

fn kinesis_record(rng: &mut Rng, index: u64) -> Json {
    let order = order(rng, index);
    let document = serde_json::to_string(&document(&order, rng.usize(..=560))).unwrap();
    let number = 49_590_338_271_490_256_608_559_692_538_361_u128 + u128::from(index) * 7;
    let number = format!("{number}571095921575989136588898");
    let kinesis = object([
        ("kinesisSchemaVersion", text("1.0")),
        ("partitionKey", text(&*order.customer)),
        ("sequenceNumber", text(&*number)),
        ("data", text(STANDARD.encode_to_string(document))),
        ("approximateArrivalTimestamp", Json::Decimal(1_767_312_000.5 + index as f64 / 100.0)),
    ]);
    object([
        ("kinesis", kinesis),
        ("eventSource", text("aws:kinesis")),
        ("eventVersion", text("1.0")),
        ("eventID", text(format!("shardId-000000000006:{number}"))),
        ("eventName", text("aws:kinesis:record")),
        ("invokeIdentityArn", text("arn:aws:iam::123456789012:role/lambda-role")),
        ("awsRegion", text("eu-west-1")),
        ("eventSourceARN", text("arn:aws:kinesis:eu-west-1:123456789012:stream/orders")),
    ])
}
