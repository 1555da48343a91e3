// SPDX-License-Identifier: GPL-2.0

//! Module parameters, as an operator set them last.

use super::bindings::{
    nms_params, //
};
use crate::nmcore::layout::{Geometry, ObjParams, PoolParams};

macro_rules! read {
    ($field:ident) => {{
        // SAFETY: the variable is static; the kernel writes it as one word.
        unsafe { (&raw const nms_params.$field).read_volatile() }
    }};
}

/// Sizes of the pool that all NICs share, for the next time it is made.
pub(crate) fn global_pool() -> PoolParams {
    PoolParams {
        ifs: ObjParams {
            num: read!(if_num),
            size: read!(if_size),
        },
        rings: ObjParams {
            num: read!(ring_num),
            size: read!(ring_size),
        },
        bufs: ObjParams {
            num: read!(buf_num),
            size: read!(buf_size),
        },
    }
}

/// Least sizes of the pool of a port of its own, for the next one.
pub(crate) fn private_pool() -> PoolParams {
    PoolParams {
        ifs: ObjParams {
            num: read!(priv_if_num),
            size: read!(priv_if_size),
        },
        rings: ObjParams {
            num: read!(priv_ring_num),
            size: read!(priv_ring_size),
        },
        bufs: ObjParams {
            num: read!(priv_buf_num),
            size: read!(priv_buf_size),
        },
    }
}

/// Tells operators what the global pool has now.
pub(crate) fn show_global_pool(now: Option<&Geometry>) {
    let pool = |pool: Option<&crate::nmcore::layout::Pool>| {
        pool.map_or((0, 0), |pool| (pool.num, pool.size))
    };
    let ifs = pool(now.map(|g| &g.ifs));
    let rings = pool(now.map(|g| &g.rings));
    let bufs = pool(now.map(|g| &g.bufs));
    // SAFETY: only this function writes these fields, under the lock of the pools; readers take
    // any value.
    unsafe {
        (&raw mut nms_params.if_curr_num).write_volatile(ifs.0);
        (&raw mut nms_params.if_curr_size).write_volatile(ifs.1);
        (&raw mut nms_params.ring_curr_num).write_volatile(rings.0);
        (&raw mut nms_params.ring_curr_size).write_volatile(rings.1);
        (&raw mut nms_params.buf_curr_num).write_volatile(bufs.0);
        (&raw mut nms_params.buf_curr_size).write_volatile(bufs.1);
    }
}

/// Whether receive syncs leave the time in the ring.
pub(crate) fn timestamps() -> bool {
    read!(no_timestamp) == 0
}

/// NIC rings: 0 best, 1 native, 2 generic.
pub(crate) fn admode() -> u32 {
    read!(admode)
}

/// Whether registrations are logged.
pub(crate) fn verbose() -> bool {
    read!(verbose) != 0
}
