"""Tests of the installed package. CPREG_STREAMS names the folder of recorded streams."""

import os
import unittest
from pathlib import Path

import cpreg

STREAMS = Path(os.environ["CPREG_STREAMS"])
#: VM of a host with Linux 6.12, which lacks registers that newer kernels have.
OLD = STREAMS / "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz"
#: VM of a host with Linux 6.16.
NEW = STREAMS / "6.16.12__q10.0__neoverse-n1__virt10.0-smp1.stream.xz"


class CheckTest(unittest.TestCase):
    """Checks of recorded streams."""

    def test_a_vm_that_converts(self) -> None:
        check = cpreg.check(OLD, NEW)
        self.assertEqual(check.verdict, "converts")
        self.assertTrue(check.is_movable)
        self.assertEqual(check.blockers, ())
        self.assertEqual((check.source.vcpus, check.source.accelerator), (1, "kvm"))
        self.assertIn("cpreg convert", check.next_command or "")
        self.assertEqual(check.document["schema"], "cpreg.check/2")

    def test_a_refused_vm_is_a_result_with_adjustments(self) -> None:
        host = "linux-5.10.223/neoverse-n1"
        check = cpreg.check(NEW, host)
        self.assertEqual(check.verdict, "refused")
        self.assertFalse(check.is_movable)
        self.assertTrue(all(blocker.reason for blocker in check.blockers))
        self.assertTrue(check.blockers)
        severities = {adjustment.severity for adjustment in check.adjustments}
        self.assertIn("low", severities)
        accepted = cpreg.check(NEW, host, "--accept", "low")
        self.assertLess(len(accepted.blockers), len(check.blockers))

    def test_an_error_has_the_message_and_causes_of_the_command(self) -> None:
        with self.assertRaises(cpreg.Error) as raised:
            cpreg.check(STREAMS / "missing", NEW)
        self.assertIn("missing", raised.exception.message)
        self.assertIn("No such file", raised.exception.causes[0])

    def test_a_name_with_a_hyphen_is_no_option(self) -> None:
        with self.assertRaises(cpreg.Error) as raised:
            cpreg.check("--accept", NEW)
        self.assertEqual(raised.exception.document["kind"], "io")

    def test_the_program_is_that_of_the_package(self) -> None:
        self.assertEqual(cpreg.find_program().name, "cpreg")


if __name__ == "__main__":
    unittest.main()
