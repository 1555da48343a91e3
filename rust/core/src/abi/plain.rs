// SPDX-License-Identifier: GPL-2.0
//! Plain structs of the ABI: one table gives the struct, the checks of its layout and the
//! conversion from and to bytes.
//!
//! The kernel copies bytes from a process and makes a value of them here, so that no struct is ever
//! laid over memory that somebody else may write.

/// A value with a fixed byte representation in the order of the machine.
pub trait Field: Copy {
    /// The value whose bytes are all zero.
    const ZERO: Self;
    /// The value at byte offset `at`; `None` when `bytes` ends before it does.
    fn read(bytes: &[u8], at: usize) -> Option<Self>;
    /// Writes the value at byte offset `at`; nothing is written when it does not fit.
    fn write(&self, bytes: &mut [u8], at: usize);
}

macro_rules! integer_field {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            const ZERO: Self = 0;
            fn read(bytes: &[u8], at: usize) -> Option<Self> {
                let raw = bytes.get(at..)?.first_chunk()?;
                Some(<$ty>::from_ne_bytes(*raw))
            }
            fn write(&self, bytes: &mut [u8], at: usize) {
                let to = bytes.get_mut(at..).and_then(|tail| tail.first_chunk_mut());
                if let Some(to) = to {
                    *to = self.to_ne_bytes();
                }
            }
        }
    )*};
}
integer_field!(u8, u16, u32, u64, i32, i64);

impl<T: Field, const N: usize> Field for [T; N] {
    const ZERO: Self = [T::ZERO; N];
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let mut out = Self::ZERO;
        let mut at = at;
        for item in &mut out {
            *item = T::read(bytes, at)?;
            at = at.checked_add(size_of::<T>())?;
        }
        Some(out)
    }
    fn write(&self, bytes: &mut [u8], at: usize) {
        let mut at = at;
        for item in self {
            item.write(bytes, at);
            at = at.saturating_add(size_of::<T>());
        }
    }
}

/// Declares structs as a table: name, size in bytes, then offset, field and type per line.
macro_rules! plain {
    ($($(#[$meta:meta])* $name:ident [$size:literal] {
        $($(#[$fmeta:meta])* $off:literal $field:ident: $ty:ty,)*
    })*) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$fmeta])* pub $field: $ty,)*
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(core::mem::offset_of!($name, $field) == $off);)*
        };

        impl $name {
            /// Size in bytes.
            pub const SIZE: usize = $size;
            /// The value whose bytes are all zero.
            pub const ZERO: Self = Self {
                $($field: <$ty as super::plain::Field>::ZERO,)*
            };
            /// The value in the first `SIZE` bytes; `None` when there are fewer.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                let bytes = bytes.get(..$size)?;
                Some(Self {
                    $($field: <$ty as super::plain::Field>::read(bytes, $off)?,)*
                })
            }
            /// The bytes of the value; those between fields are zero.
            pub fn to_bytes(self) -> [u8; $size] {
                let mut out = [0; $size];
                $(super::plain::Field::write(&self.$field, &mut out, $off);)*
                out
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::ZERO
            }
        }

        impl super::plain::Field for $name {
            const ZERO: Self = <$name>::ZERO;
            fn read(bytes: &[u8], at: usize) -> Option<Self> {
                <$name>::from_bytes(bytes.get(at..)?)
            }
            fn write(&self, bytes: &mut [u8], at: usize) {
                let to = bytes.get_mut(at..).and_then(|tail| tail.first_chunk_mut());
                if let Some(to) = to {
                    *to = self.to_bytes();
                }
            }
        }
    )*};
}
pub(super) use plain;
