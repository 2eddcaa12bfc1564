// Package avouch is the root of the repository and holds no code: each folder beside it is a room of the product, and
// layout_test.go holds the rules of the house. Start with README.md, then ARCHITECTURE.md.
package avouch
