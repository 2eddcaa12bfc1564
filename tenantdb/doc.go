// Package tenantdb is the only door to tenants' data, and the only writer of the log.
//
// A room reads with DB.Read and changes with DB.Change; what changes nothing but must be recorded goes through
// DB.Record; the verify room, whose decision spans two tenants, uses DB.Append; what is decided and counted in one commit,
// DB.Decide. All of them end in one statement (sql.go: appendSQL) that locks the heads of the tenants concerned, compares
// their epochs with those that the decision was made at, numbers the entries and takes the chain
// forward. The answer leaves after that commit is durable.
//
// What it promises:
//
//  1. A transaction sees one tenant's rows and no others; without a tenant, none: TestNoTenantNoRows, TestOtherTenantInvisible.
//  2. A change commits with its entry or not at all, also when the room forgets, and in SQL beside this package (but for
//     the exceptions that TestCatalogue lists):
//     TestChangeNeedsEntry, TestTriggerRefusesUnrecordedChange.
//  3. Every table with a tenant has all five nets; the exceptions are a list with reasons: TestCatalogue, TestCatalogueSeesForgottenTable.
//  4. A decision is appended only if no change that could alter it has committed since: TestStaleEpochIsRefused,
//     TestTwoTenantsAreAllOrNothing. However much changes, it is made and appended in the end: TestDecideIsMadeInTheEnd.
//  5. What was acknowledged is in the log once, whatever happens to a connection, the server or Postgres, and what was
//     refused never appears later: TestLostReply, TestDuplicatedReply, TestFloorAfterRollback, TestRecordExactlyOnce. Where
//     that cannot be known the error is problem.Uncertain: TestUnknownOutcomeSaysSo, TestGroupTellsTheTruthToWhoGoes,
//     TestPanicTellsTheBatch. Nobody waits for one for ever: TestNobodyIsLeftInTheQueue, TestPanicOfACallerWhoDrives.
//  6. A held head delays its own tenant, not the others: TestHeldHeadDelaysOnlyItsTenant.
//  7. A counter is never exceeded, on any number of servers: TestCounterNeverExceeded, TestSpendExactly. Who takes from several
//     takes from all or none, and is told what is left; a refusal changes nothing: TestSpendAmounts, TestSpendersOfOneBatch,
//     TestSpendModel. A window begins with the first that is taken after the last has ended, and a clock that is behind
//     begins none: TestSpendWindows. Who looks takes nothing: TestSpendLooks. A change takes with its entry, or is undone: TestChangeSpends.
//  8. The log cannot be changed by the server's role: TestLogIsInsertOnly. A role with more rights than the server
//     needs is refused at start: TestRefusesPowerfulRole.
//  9. When the door is closed, every caller has an outcome, soon, and nothing is left running: TestCloseWithFullQueue,
//     TestCloseUnderLoad, TestCloseWhileHeadsAreHeld, TestCloseWaitsForCallersInside, TestClosedDoorRefusesAtOnce.
//  10. A migration keeps what an older release has written, and servers of both go on together; two at once take turns:
//     TestUpgradeFromEveryOlderSchema, TestRoomsSurviveMigration, TestMigrateUnderLoad, TestMigrateAtOnce. The schema is
//     what migrations/schema.sql says: TestSchemaFile. Its owner need be no superuser: TestMigrateAsOrdinaryOwner. A server
//     refuses one that it does not fit: TestRefusesOtherSchemas.
//  11. The database may be reached by certificates at both ends: TestMutualTLSToPostgres.
//  12. A tenant that the gate refuses is closed on every way in, and others are not: TestGate.
//
// It does not promise that whoever can run SQL as the server's role sees one tenant only: such a one can set the tenant.
// Row-level security stops mistakes (docs/threat-model.md).
package tenantdb
