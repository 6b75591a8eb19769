//! Keeps bytes from asking too much of a decoder: nesting without end, and lengths that nothing stands behind.
//!
//! rmp-serde counts the depth of arrays and maps but not of enums and options, and postcard counts nothing. Both pass
//! on the lengths that they read, for which serde reserves up to a mebibyte on every level; and in postcard elements
//! may take no bytes, so that ten bytes can ask for 2^64 of them.

use std::{cell::Cell, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// How deep containers, enums and options may nest. JSON's 128 count no options, so what nests in JSON does so here.
const DEPTH: u16 = 256;

/// How many elements there may be beyond one for each byte, because they take none.
const WEIGHTLESS: usize = 1 << 16;

/// Reads a value from `inner`, which has `len` bytes.
pub(super) fn read<'de, T, D>(inner: D, len: usize) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let elements = Cell::new(len.saturating_add(WEIGHTLESS));
    let bounds = Bounds {
        depth: DEPTH,
        elements: &elements,
        counted: false,
    };
    T::deserialize(bounds.around(inner))
}

/// What may still be asked for.
#[derive(Clone, Copy)]
struct Bounds<'b> {
    depth: u16,
    elements: &'b Cell<usize>,
    /// The number of elements is what the bytes say, not what the type says, and has not been paid for.
    counted: bool,
}

impl<'b> Bounds<'b> {
    fn around<X>(self, inner: X) -> Bounded<'b, X> {
        Bounded {
            inner,
            bounds: self,
        }
    }

    fn counted(self, counted: bool) -> Self {
        Self { counted, ..self }
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(E::custom("nested too deep")),
        }
    }

    /// One level deeper, in a container of `len` elements if that is known.
    fn enter<E: Error>(self, len: Option<usize>) -> Result<Self, E> {
        let inside = self.deeper()?;
        match len {
            Some(len) if self.counted => inside.pay(len),
            _ => Ok(inside),
        }
    }

    /// Takes `len` elements from those that there can be. Every element that takes bytes begins with a byte that no
    /// other begins with, so for each byte there is one at most.
    fn pay<E: Error>(self, len: usize) -> Result<Self, E> {
        match self.elements.get().checked_sub(len) {
            Some(left) => self.elements.set(left),
            None => return Err(E::custom("more elements than bytes")),
        }
        Ok(self.counted(false))
    }

    fn pay_for_one<E: Error>(self) -> Result<(), E> {
        if self.counted {
            self.pay(1)?;
        }
        Ok(())
    }
}

/// A part of a decoder, or of what it calls back, within bounds.
struct Bounded<'b, X> {
    inner: X,
    bounds: Bounds<'b>,
}

/// Numbers end a branch, so their visitors are as they are.
macro_rules! deserialize_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        }
    )*};
}

macro_rules! deserialize {
    (counted: $counted:literal, $($method:ident($($name:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(
            self,
            $($name: $type,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            let visitor = self.bounds.counted($counted).around(visitor);
            self.inner.$method($($name,)* visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    deserialize_numbers! {
        deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    deserialize! {
        counted: true,
        deserialize_any()
        deserialize_ignored_any()
        deserialize_identifier()
        deserialize_char()
        deserialize_str()
        deserialize_string()
        deserialize_bytes()
        deserialize_byte_buf()
        deserialize_option()
        deserialize_unit()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_seq()
        deserialize_map()
    }

    deserialize! {
        counted: false,
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident: $type:ty)*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<'_, V> {
    type Value = V::Value;

    visit! {
        visit_bool: bool
        visit_i8: i8
        visit_i16: i16
        visit_i32: i32
        visit_i64: i64
        visit_i128: i128
        visit_u8: u8
        visit_u16: u16
        visit_u32: u32
        visit_u64: u64
        visit_u128: u128
        visit_f32: f32
        visit_f64: f64
        visit_char: char
        visit_str: &str
        visit_borrowed_str: &'de str
        visit_string: String
        visit_bytes: &[u8]
        visit_borrowed_bytes: &'de [u8]
        visit_byte_buf: Vec<u8>
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(self.bounds.deeper()?.around(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(self.bounds.around(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        let inside = self.bounds.enter(elements.size_hint())?;
        self.inner.visit_seq(inside.around(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, pairs: A) -> Result<V::Value, A::Error> {
        let inside = self.bounds.enter(pairs.size_hint())?;
        self.inner.visit_map(inside.around(pairs))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(self.bounds.deeper()?.around(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(self.bounds.around(inner))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.bounds.pay_for_one()?;
        self.inner.next_element_seed(self.bounds.around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.bounds.pay_for_one()?;
        self.inner.next_key_seed(self.bounds.around(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(self.bounds.around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'b, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'b, A> {
    type Error = A::Error;
    type Variant = Bounded<'b, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(self.bounds.around(seed))?;
        Ok((value, self.bounds.around(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(self.bounds.around(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, self.bounds.around(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner
            .struct_variant(fields, self.bounds.around(visitor))
    }
}
