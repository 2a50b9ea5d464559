//! The parts that every record is made of: numbers, texts, lists, maps, times, ids, secrets, request bodies.
//!
//! Numbers are little-endian base 128; lengths are numbers. A length is checked against the bytes that are left
//! before anything is allocated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tresor_env::Timestamp;
use tresor_model::ids::{Accessor, LeaseId, MountAccessor, MountId, NamespaceId, RequestId};
use tresor_model::{Body, Map, Number};
use tresor_secret::Wiped;
use tresor_secret::{SecretBytes, SecretString, TokenSecret};

use crate::{Part, Reader, RecordError, Writer};

/// How deep a stored body may nest.
const BODY_DEPTH_MAX: u32 = 128;

impl Part for u64 {
    fn write(&self, writer: &mut Writer) {
        let mut rest = *self;
        loop {
            let low = u8::try_from(rest & 0x7f).unwrap_or(0);
            rest >>= 7;
            if rest == 0 {
                writer.append(&[low]);
                return;
            }
            writer.append(&[low | 0x80]);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = u8::read(reader)?;
            let low = Self::from(byte & 0x7f);
            let shifted = low << shift;
            if shifted >> shift != low {
                return Err(reader.impossible());
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                // One spelling per number: no trailing zero groups.
                return if byte == 0 && shift > 0 { Err(reader.impossible()) } else { Ok(value) };
            }
        }
        Err(reader.impossible())
    }
}

impl Part for u8 {
    fn write(&self, writer: &mut Writer) {
        writer.append(&[*self]);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let taken = reader.take(1)?;
        taken.first().copied().ok_or_else(|| reader.impossible())
    }
}

macro_rules! narrow {
    ($($kind:ty),*) => {$(
        impl Part for $kind {
            fn write(&self, writer: &mut Writer) {
                u64::from(*self).write(writer);
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                Self::try_from(u64::read(reader)?).map_err(|_| reader.impossible())
            }
        }
    )*};
}
narrow!(u16, u32);

impl Part for i64 {
    fn write(&self, writer: &mut Writer) {
        writer.append(&self.to_be_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let taken = reader.take(8)?;
        taken.try_into().map(Self::from_be_bytes).map_err(|_| reader.impossible())
    }
}

impl Part for bool {
    fn write(&self, writer: &mut Writer) {
        u8::from(*self).write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        match u8::read(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(reader.impossible()),
        }
    }
}

fn write_bytes(bytes: &[u8], writer: &mut Writer) {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).write(writer);
    writer.append(bytes);
}

fn read_length(reader: &mut Reader<'_>) -> Result<usize, RecordError> {
    let length = u64::read(reader)?;
    usize::try_from(length).ok().filter(|length| *length <= reader.remaining()).ok_or_else(|| reader.impossible())
}

fn read_bytes<'b>(reader: &mut Reader<'b>) -> Result<&'b [u8], RecordError> {
    let length = read_length(reader)?;
    reader.take(length)
}

fn read_text<'b>(reader: &mut Reader<'b>) -> Result<&'b str, RecordError> {
    let bytes = read_bytes(reader)?;
    std::str::from_utf8(bytes).map_err(|_| reader.impossible())
}

impl Part for String {
    fn write(&self, writer: &mut Writer) {
        write_bytes(self.as_bytes(), writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        read_text(reader).map(str::to_owned)
    }
}

impl Part for Box<str> {
    fn write(&self, writer: &mut Writer) {
        write_bytes(self.as_bytes(), writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        read_text(reader).map(Into::into)
    }
}

impl Part for SecretString {
    fn write(&self, writer: &mut Writer) {
        write_bytes(self.expose().as_bytes(), writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        read_text(reader).map(|text| Self::new(text.to_owned()))
    }
}

impl Part for SecretBytes {
    fn write(&self, writer: &mut Writer) {
        write_bytes(self.expose(), writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        read_bytes(reader).map(|bytes| Self::new(bytes.to_vec()))
    }
}

impl Part for TokenSecret {
    fn write(&self, writer: &mut Writer) {
        write_bytes(self.expose().as_bytes(), writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Self::parse(read_text(reader)?).map_err(|_| reader.impossible())
    }
}

impl Part for Wiped<Vec<u8>> {
    fn write(&self, writer: &mut Writer) {
        write_bytes(self, writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        read_bytes(reader).map(|bytes| Self::new(bytes.to_vec()))
    }
}

impl<T: Part> Part for Arc<T> {
    fn write(&self, writer: &mut Writer) {
        (**self).write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        T::read(reader).map(Self::new)
    }
}

impl<T: Part> Part for Option<T> {
    fn write(&self, writer: &mut Writer) {
        self.is_some().write(writer);
        if let Some(value) = self {
            value.write(writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        if bool::read(reader)? { T::read(reader).map(Some) } else { Ok(None) }
    }
}

impl<T: Part> Part for Vec<T> {
    fn write(&self, writer: &mut Writer) {
        u64::try_from(self.len()).unwrap_or(u64::MAX).write(writer);
        for item in self {
            item.write(writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let count = read_length(reader)?;
        (0..count).map(|_| T::read(reader)).collect()
    }
}

impl<T: Part + Ord> Part for BTreeSet<T> {
    fn write(&self, writer: &mut Writer) {
        u64::try_from(self.len()).unwrap_or(u64::MAX).write(writer);
        for item in self {
            item.write(writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Vec::read(reader)?.into_iter().collect())
    }
}

impl<K: Part + Ord, V: Part> Part for BTreeMap<K, V> {
    fn write(&self, writer: &mut Writer) {
        u64::try_from(self.len()).unwrap_or(u64::MAX).write(writer);
        for (key, value) in self {
            key.write(writer);
            value.write(writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let count = read_length(reader)?;
        (0..count).map(|_| Ok((K::read(reader)?, V::read(reader)?))).collect()
    }
}

impl Part for Timestamp {
    fn write(&self, writer: &mut Writer) {
        self.nanos().write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        i64::read(reader).map(Self::from_nanos)
    }
}

impl Part for Duration {
    fn write(&self, writer: &mut Writer) {
        self.as_secs().write(writer);
        self.subsec_nanos().write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let seconds = u64::read(reader)?;
        let nanos = u32::read(reader)?;
        if nanos >= 1_000_000_000 { Err(reader.impossible()) } else { Ok(Self::new(seconds, nanos)) }
    }
}

macro_rules! id {
    ($($kind:ty),*) => {$(
        impl Part for $kind {
            fn write(&self, writer: &mut Writer) {
                write_bytes(self.as_str().as_bytes(), writer);
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                read_text(reader).map(Self::new)
            }
        }
    )*};
}
id!(Accessor, LeaseId, MountAccessor, MountId, NamespaceId, RequestId);

impl Part for Map {
    fn write(&self, writer: &mut Writer) {
        u64::try_from(self.len()).unwrap_or(u64::MAX).write(writer);
        for (name, value) in self.iter() {
            write_bytes(name.as_bytes(), writer);
            value.write(writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        read_map(reader, 0)
    }
}

impl Part for Body {
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Null => 0_u8.write(writer),
            Self::Bool(false) => 1_u8.write(writer),
            Self::Bool(true) => 2_u8.write(writer),
            Self::Number(number) => {
                3_u8.write(writer);
                write_bytes(number.as_str().as_bytes(), writer);
            }
            Self::String(text) => {
                4_u8.write(writer);
                write_bytes(text.as_str().as_bytes(), writer);
            }
            Self::List(items) => {
                5_u8.write(writer);
                items.write(writer);
            }
            Self::Map(map) => {
                6_u8.write(writer);
                map.write(writer);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        read_body(reader, 0)
    }
}

fn read_map(reader: &mut Reader<'_>, depth: u32) -> Result<Map, RecordError> {
    let count = read_length(reader)?;
    (0..count).map(|_| Ok((String::read(reader)?, read_body(reader, depth + 1)?))).collect()
}

fn read_body(reader: &mut Reader<'_>, depth: u32) -> Result<Body, RecordError> {
    if depth > BODY_DEPTH_MAX {
        return Err(reader.impossible());
    }
    Ok(match u8::read(reader)? {
        0 => Body::Null,
        1 => Body::Bool(false),
        2 => Body::Bool(true),
        3 => Number::parse(read_text(reader)?).map(Body::Number).ok_or_else(|| reader.impossible())?,
        4 => Body::from(read_text(reader)?),
        5 => {
            let count = read_length(reader)?;
            Body::List((0..count).map(|_| read_body(reader, depth + 1)).collect::<Result<_, _>>()?)
        }
        6 => Body::Map(read_map(reader, depth)?),
        _ => return Err(reader.impossible()),
    })
}
