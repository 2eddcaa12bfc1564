// Package link makes and spends the secrets that are mailed to people: to join, to recover an account, to change an address.
//
// A link's secret is derived from its id by a key of the organisation, so that the job that mails it holds the id alone, and
// the database the secret's digest alone.
//
// What it promises:
//
//  1. A link works once, until its end, for its purpose and its organisation, on any number of servers: TestOnce,
//     TestPurpose, TestEnd, TestRace.
//  2. Neither the database nor a job holds its secret: TestSecretIsNowhere.
//     A row that was only written into the database is no link: TestRowsAreNoLinks.
//  3. A later link for the same subject and purpose ends the ones before: TestLaterEndsEarlier.
package link
