// Package e2e holds what only a whole installation can show: servers with their database, spoken to over HTTP.
//
// Its tests are named in the promises of the rooms that they hold.
package e2e
