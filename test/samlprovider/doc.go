// Package samlprovider is a SAML 2.0 identity provider for tests: it signs for real, with keys of its own, and it can be told
// to be wrong in every way of a corpus of attacks.
//
// What it signs is judged by xmlsec1 where that is installed (saml.TestJudge), so that a service provider which
// accepts it was not merely taught its mistakes.
package samlprovider
