// Package testenv knows what this machine can do, and runs tests that need it.
//
// A test names what it needs and is skipped, with the reason, where that is missing:
//
//	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.Qdisc("fq_codel"))
//
// bats files say the same with the same words (`requires root netns qdisc:fq_codel`): both ask the probes of this
// package, bats by way of tests/probe. An environment that promises a feature says so in BULKHEAD_REQUIRE
// ("NetNS,Root"; case does not matter), which turns that skip into a failure, so that silence cannot pass.
//
// Main gives a test binary private mount and network namespaces, so that no test can touch the machine's own:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
package testenv
