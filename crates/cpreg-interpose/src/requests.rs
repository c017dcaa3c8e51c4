//! Numbers of KVM's ioctls (Linux `include/uapi/linux/kvm.h`, `asm-generic/ioctl.h`).

/// Group of KVM's ioctls.
const KVMIO: u32 = 0xae;

pub(crate) const CREATE_VM: u32 = io(0x01);
pub(crate) const CREATE_VCPU: u32 = io(0x41);
pub(crate) const RUN: u32 = io(0x80);
/// The size is that of `struct kvm_mp_state`.
pub(crate) const SET_MP_STATE: u32 = iow(0x99, 4);
/// The size is that of `struct kvm_one_reg`.
pub(crate) const GET_ONE_REG: u32 = iow(0xab, 16);
pub(crate) const SET_ONE_REG: u32 = iow(0xac, 16);
/// The size is that of `struct kvm_vcpu_init`.
pub(crate) const ARM_VCPU_INIT: u32 = iow(0xae, 32);
/// The size is that of `struct kvm_reg_list` without ids.
pub(crate) const GET_REG_LIST: u32 = iowr(0xb0, 8);
pub(crate) const ARM_VCPU_FINALIZE: u32 = iow(0xc2, 4);

const WRITE: u32 = 1 << 30;
const READ: u32 = 2 << 30;

const fn io(number: u32) -> u32 {
    KVMIO << 8 | number
}

const fn iow(number: u32, size: u32) -> u32 {
    WRITE | size << 16 | io(number)
}

const fn iowr(number: u32, size: u32) -> u32 {
    READ | iow(number, size)
}

/// Returns `true` if the request may be one of KVM's.
pub(crate) const fn is_kvm(request: u32) -> bool {
    request >> 8 & 0xff == KVMIO
}

/// Returns `true` if the library handles the request on a vCPU.
pub(crate) const fn is_about_vcpu(request: u32) -> bool {
    matches!(
        request,
        RUN | SET_MP_STATE | GET_ONE_REG | SET_ONE_REG | ARM_VCPU_INIT | GET_REG_LIST
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected numbers are those that strace prints.
    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(
            [CREATE_VM, CREATE_VCPU, RUN, SET_MP_STATE],
            [0xae01, 0xae41, 0xae80, 0x4004_ae99]
        );
        assert_eq!(
            [GET_ONE_REG, SET_ONE_REG, ARM_VCPU_INIT, GET_REG_LIST],
            [0x4010_aeab, 0x4010_aeac, 0x4020_aeae, 0xc008_aeb0]
        );
        assert!(is_kvm(GET_REG_LIST) && !is_kvm(0x5401));
    }
}
