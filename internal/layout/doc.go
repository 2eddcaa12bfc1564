// Package layout reads a tree of Go source and finds where it breaks the rules of the house.
//
// The rules live here; what they are applied to (the floors, the lists of who may do what, the exceptions with their
// reasons) is in layout_test.go at the root of the repository, where a change to it is seen by every reviewer.
//
// It reads syntax only and asks neither the compiler nor git, so that a run takes about a second and also works in a
// tree that does not build. The price is written at the rules that pay it.
//
//  1. Every rule finds the violation that is planted for it, at its line, and nothing else: TestPlanted.
//  2. No rule can be added without a planted violation: TestEveryRuleIsPlanted.
//  3. An exception that nothing needs any more is itself a finding, so lists of exceptions do not rot: TestPlanted.
//  4. A dependency below its minimum, or replaced, is found: TestMinimums.
package layout
