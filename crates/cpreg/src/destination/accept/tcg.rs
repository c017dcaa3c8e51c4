//! What QEMU's own emulation (TCG) does with a value when it loads the list: everything is written, then read back and compared.
use super::Answer;
use crate::destination::{Destination, HostRegister};
use crate::register::{RegisterId, Value};
pub fn takes(_d: &Destination, r: &HostRegister, _v: &Value) -> Answer {
    if r.id.is_id_register() {
        Answer::NO
    } else {
        Answer::YES
    }
}
pub fn takes_nothing(_d: &Destination, r: &HostRegister) -> Answer {
    if r.id.is_id_register() {
        Answer::NO
    } else {
        Answer::YES
    }
}
pub fn is_constant(_d: &Destination, id: RegisterId) -> bool {
    id.is_id_register()
}
pub fn is_not_loaded(_d: &Destination, _id: RegisterId) -> bool {
    false
}
