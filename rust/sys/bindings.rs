// SPDX-License-Identifier: GPL-2.0

//! Kernel types and functions as bindgen translates them from `bindings_helper.h`.
//!
//! The `kernel` crate keeps `net_device`, `sk_buff` and `sock` opaque, so this module has its own.

#![allow(unknown_lints)]
#![allow(
    clippy::all,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::indexing_slicing,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnecessary_transmutes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use pin_init::{MaybeZeroable, Zeroable};

// bindgen is told to leave these out, see the kernel's rust/bindgen_parameters.
type __kernel_size_t = usize;
type __kernel_ssize_t = isize;
type __kernel_ptrdiff_t = isize;

// SAFETY: a bit-field unit is a plain array of its storage.
unsafe impl<Storage> Zeroable for __BindgenBitfieldUnit<Storage> where Storage: Zeroable {}

include!(env!("NETMAP_BINDINGS"));
