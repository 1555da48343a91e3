// SPDX-License-Identifier: GPL-2.0

//! A character device: open, ioctl, poll and mmap of safe types.

use super::{
    bindings,
    poll::PollTable, //
};
use core::{
    ffi::c_void,
    marker::PhantomPinned,
    ptr, //
};
use kernel::{
    bindings as kbind,
    ffi::{c_int, c_long, c_uint, c_ulong},
    prelude::*,
    sync::Arc,
    types::Opaque,
    ThisModule, //
};

/// What stands behind the device file.
pub(crate) trait Device: Send + Sync + Sized + 'static {
    /// An open file of it.
    type File: Send + Sync;

    /// open().
    fn open(device: &Arc<Self>) -> Result<Self::File>;

    /// The last user of the file has gone: descriptors and mappings. Of a process that ends, all other
    /// files are closed already.
    fn release(file: Self::File);

    /// ioctl(): command and argument as the process gave them.
    fn ioctl(file: &Self::File, cmd: u32, arg: usize) -> Result<isize>;

    /// poll(): registers with wait queues, and tells which events there are.
    fn poll(file: &Self::File, table: &PollTable<'_>) -> u32;

    /// Number of pages that can be mapped.
    ///
    /// # Errors
    ///
    /// What mmap() fails with.
    fn pages(file: &Self::File) -> Result<usize>;

    /// Number in physical memory of page `page`. It stays the file's until release.
    fn pfn(file: &Self::File, page: usize) -> Option<usize>;
}

/// A registered device; open files refer to its parts, and to the module.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Registration<D: Device> {
    // First: a new file carries the address of this field.
    #[pin]
    misc: Opaque<kbind::miscdevice>,
    fops: kbind::file_operations,
    /// Of [`Open::behind`].
    fops_behind: kbind::file_operations,
    device: Arc<D>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: the C structures are not changed between registration and its end.
unsafe impl<D: Device> Send for Registration<D> {}
// SAFETY: as above.
unsafe impl<D: Device> Sync for Registration<D> {}

impl<D: Device> Registration<D> {
    /// Registers /dev/`name`. The module cannot go while a file is open.
    pub(crate) fn new(
        name: &'static CStr,
        module: &'static ThisModule,
        device: Arc<D>,
    ) -> Result<Pin<KBox<Self>>> {
        let fops = kbind::file_operations {
            owner: module.as_ptr(),
            open: Some(open::<D>),
            release: Some(release::<D>),
            unlocked_ioctl: Some(ioctl::<D>),
            compat_ioctl: kbind::compat_ptr_ioctl,
            poll: Some(poll::<D>),
            mmap: Some(mmap::<D>),
            ..pin_init::zeroed()
        };
        let fops_behind = kbind::file_operations {
            owner: module.as_ptr(),
            release: Some(release_behind::<D>),
            ..pin_init::zeroed()
        };
        let this = KBox::pin_init(
            try_pin_init!(Self {
                misc: Opaque::new(kbind::miscdevice {
                    minor: kbind::MISC_DYNAMIC_MINOR as c_int,
                    name: kernel::str::as_char_ptr_in_const_context(name),
                    mode: 0o600,
                    ..pin_init::zeroed()
                }),
                fops,
                fops_behind,
                device,
                _pin: PhantomPinned,
            }? Error),
            GFP_KERNEL,
        )?;
        // SAFETY: pinned, and not registered yet: nobody else looks at it.
        unsafe { (*this.misc.get()).fops = &raw const this.fops };
        // SAFETY: pinned until drop, which ends the registration.
        let ret = unsafe { kbind::misc_register(this.misc.get()) };
        if ret != 0 {
            // Tells drop that there is nothing to end.
            // SAFETY: as above.
            unsafe { (*this.misc.get()).fops = ptr::null() };
            return Err(Error::from_errno(ret));
        }
        Ok(this)
    }
}

#[pinned_drop]
impl<D: Device> PinnedDrop for Registration<D> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: the field was set before registration and is null if that failed.
        unsafe {
            if !(*self.misc.get()).fops.is_null() {
                kbind::misc_deregister(self.misc.get());
            }
        }
    }
}

/// What an open file leads to.
struct Open<D: Device> {
    file: D::File,
    /// The kernel closes the files of a process that is killed one by one, and what they send then may
    /// need the device: so this other file, which leads here too, is put by the first one's release,
    /// and its own release, which comes after all of theirs, is that of `file`.
    behind: *mut c_void,
}

/// # Safety
///
/// Called by the misc layer for a new file of the device of `D`.
unsafe extern "C" fn open<D: Device>(_inode: *mut kbind::inode, file: *mut kbind::file) -> c_int {
    // SAFETY: the misc layer leaves the address of the miscdevice there, which is that of its
    // registration; the registration lives while the module does, and so while a file is opened.
    let registration = unsafe { &*(*file).private_data.cast::<Registration<D>>() };
    match registration.open() {
        Ok(opened) => {
            // SAFETY: the file is ours to set up.
            unsafe { (*file).private_data = opened.cast() };
            0
        }
        Err(err) => err.to_errno(),
    }
}

impl<D: Device> Registration<D> {
    /// A new box, for the private data of a new file.
    fn open(&self) -> Result<*mut Open<D>> {
        let file = D::open(&self.device)?;
        let behind = ptr::null_mut();
        let opened = KBox::into_raw(KBox::new(Open { file, behind }, GFP_KERNEL)?);
        let fops = (&raw const self.fops_behind).cast();
        // SAFETY: the operations live as long as the module, which the other file holds; its release
        // takes the box, and if there is none, nobody has it but we.
        unsafe {
            let made = kernel::error::from_err_ptr(bindings::nms_file_behind(fops, opened.cast()));
            (*opened).behind = made.inspect_err(|_| drop(KBox::from_raw(opened)))?;
        }
        Ok(opened)
    }
}

/// # Safety
///
/// Called by the kernel for the last user of a file of [`open`].
unsafe extern "C" fn release<D: Device>(
    _inode: *mut kbind::inode,
    file: *mut kbind::file,
) -> c_int {
    // SAFETY: `open` left the box there, and this is the last call for the file: the reference to the
    // other one, which the box holds, is given up once.
    unsafe { bindings::nms_file_put((*(*file).private_data.cast::<Open<D>>()).behind) };
    0
}

/// # Safety
///
/// Called by the kernel for a file of [`Registration::open`] that [`release`] has put.
unsafe extern "C" fn release_behind<D: Device>(
    _inode: *mut kbind::inode,
    file: *mut kbind::file,
) -> c_int {
    // SAFETY: nobody else has the box since `release`.
    let opened = unsafe { KBox::from_raw((*file).private_data.cast::<Open<D>>()) };
    D::release(KBox::into_inner(opened).file);
    0
}

/// The open file.
///
/// # Safety
///
/// `file` has been opened by [`open`] of the same `D` and is not being released for `'a`.
#[inline]
unsafe fn opened<'a, D: Device>(file: *mut kbind::file) -> &'a D::File {
    // SAFETY: `open` left a box there; only shared references are made of it until release.
    unsafe { &(*(*file).private_data.cast::<Open<D>>()).file }
}

/// # Safety
///
/// Called by the kernel on a file of [`open`].
unsafe extern "C" fn ioctl<D: Device>(file: *mut kbind::file, cmd: c_uint, arg: c_ulong) -> c_long {
    // SAFETY: called on an open file.
    match D::ioctl(unsafe { opened::<D>(file) }, cmd, arg) {
        Ok(value) => value as c_long,
        Err(err) => err.to_errno() as c_long,
    }
}

/// # Safety
///
/// Called by the kernel on a file of [`open`], with a table that is null or valid.
unsafe extern "C" fn poll<D: Device>(
    file: *mut kbind::file,
    table: *mut kbind::poll_table_struct,
) -> kbind::__poll_t {
    // SAFETY: the caller's pointers are valid for the call.
    let table = unsafe { PollTable::from_raw(file, table) };
    // SAFETY: called on an open file.
    D::poll(unsafe { opened::<D>(file) }, &table)
}

/// # Safety
///
/// Called by the kernel on a file of [`open`], with a mapping that is being made.
unsafe extern "C" fn mmap<D: Device>(
    file: *mut kbind::file,
    vma: *mut kbind::vm_area_struct,
) -> c_int {
    // SAFETY: called on an open file.
    match D::pages(unsafe { opened::<D>(file) }) {
        // SAFETY: `vma` is being set up for this file; the operations are static.
        Ok(pages) => unsafe { bindings::nms_vma_setup(vma.cast(), pages, VmOps::<D>::TABLE) },
        Err(err) => err.to_errno(),
    }
}

struct VmOps<D>(core::marker::PhantomData<D>);

impl<D: Device> VmOps<D> {
    const TABLE: &'static bindings::vm_operations_struct = &bindings::vm_operations_struct {
        fault: Some(fault::<D>),
        ..pin_init::zeroed()
    };
}

/// # Safety
///
/// Called by the kernel for a mapping of [`mmap`].
unsafe extern "C" fn fault<D: Device>(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: the mapping holds its file, whose private data is the box of `open`.
    unsafe {
        let file = bindings::nms_vma_file(vmf);
        bindings::nms_vma_fault(vmf, file, Some(frame::<D>))
    }
}

/// # Safety
///
/// `file` is the box of [`open`], alive.
unsafe extern "C" fn frame<D: Device>(file: *mut c_void, page: c_ulong) -> c_ulong {
    // SAFETY: as passed by `fault`.
    let opened = unsafe { &*file.cast::<Open<D>>() };
    D::pfn(&opened.file, page).unwrap_or(0) as c_ulong
}
