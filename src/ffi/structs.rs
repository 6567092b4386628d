//! Structs that grow at their end: read by the size the caller was compiled with.

use std::mem::{align_of, size_of, MaybeUninit};

use crate::{Error, ErrorCode};

/// A struct whose first field is `uint32_t struct_size`, made of integers and pointers only, so
/// that all bits zero is a value of it that means "default" throughout.
///
/// # Safety
/// It is `repr(C)` and as said.
pub(super) unsafe trait Sized32: Sized {
    /// The size in the first release: the least a caller can have.
    const FIRST_SIZE: usize;
    /// What it is called in messages.
    const NAME: &'static str;
}

/// A struct as far as this version knows it.
pub(super) struct Read<T> {
    pub(super) known: T,
    /// The objection if a newer caller sets what lies beyond: it would ask for something unknown here.
    pub(super) checked: Result<(), Error>,
}

impl<T> Read<T> {
    /// The struct, unless there is an objection.
    pub(super) fn whole(self) -> Result<T, Error> {
        self.checked.map(|()| self.known)
    }
}

/// Reads as much of the struct as the caller has and this version knows; the rest is zero. What a
/// newer caller has beyond must be zero.
///
/// # Safety
/// `source` is NULL or points to a struct with `struct_size` bytes as its first field says.
pub(super) unsafe fn read<T: Sized32>(source: *const T) -> Result<Read<T>, Error> {
    if source.is_null() {
        return Err(Error::new(ErrorCode::NullArgument, format!("the {} is NULL", T::NAME)));
    }
    // SAFETY: the first field is there in any version.
    let size = unsafe { source.cast::<u32>().read_unaligned() } as usize;
    // A struct of more than a page is a mistake, not a later version; and none ends within a pointer.
    if !(T::FIRST_SIZE..=4_096).contains(&size) || !size.is_multiple_of(align_of::<T>()) {
        let message = format!(
            "the {} has struct_size {size}, which no version of the library has; initialize it with its _INIT macro",
            T::NAME
        );
        return Err(Error::new(ErrorCode::InvalidStructSize, message));
    }
    let known = size.min(size_of::<T>());
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: both sides have `known` bytes; all bits zero is a value of T, and what is copied over
    // it was written by the caller as that type.
    let copy = unsafe {
        std::ptr::copy_nonoverlapping(source.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), known);
        copy.assume_init()
    };
    // SAFETY: the caller says that so many bytes are there.
    let beyond = unsafe { std::slice::from_raw_parts(source.cast::<u8>().add(known), size - known) };
    let checked = if beyond.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        let message = format!("the {} sets a field that this version of the library does not have", T::NAME);
        Err(Error::new(ErrorCode::UnknownOption, message))
    };
    Ok(Read { known: copy, checked })
}

/// Writes as much of the struct as the caller has, and tells it how much that is.
///
/// # Safety
/// `out` is NULL or points to a struct with `struct_size` bytes as its first field says.
pub(super) unsafe fn write<T: Sized32>(known: T, out: *mut T) -> Result<(), Error> {
    // SAFETY: as the caller says.
    unsafe { read(out.cast_const()) }?;
    // SAFETY: it was just read, so it has a size, which is in range; so many bytes are on both sides, and the
    // first four of them are the size.
    unsafe {
        let size = (out.cast::<u32>().read_unaligned() as usize).min(size_of::<T>());
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(&known).cast::<u8>(), out.cast::<u8>(), size);
        out.cast::<u32>().write_unaligned(size as u32);
    }
    Ok(())
}

/// Refuses flags that this version does not know.
pub(super) fn check_flags<T: Sized32>(flags: u32, known: u32) -> Result<(), Error> {
    if flags & !known != 0 {
        let message = format!("the {} has unknown flags: {:#x}", T::NAME, flags & !known);
        return Err(Error::new(ErrorCode::UnknownOption, message));
    }
    Ok(())
}
