// Package rotation replaces organisations' own keys while everything runs: the key that wraps the data key of each sealed value, and
// the key that wraps those of data subjects. New versions are made, everything is wrapped under them, and when nothing has needed
// the versions before for as long as a backup may be restored, those are destroyed. What is sealed is neither opened nor moved.
//
// The order is the argument (Room.Work). First a row says which versions are to be made, then they are made, then everything that does
// not begin as what is under the newest does is wrapped anew, in chunks: read and wrapped with nothing held, and put back in one
// commit where it still is what was read. Other servers take the version before for the newest for 30 seconds, and write a while
// later what they sealed: so a look that finds nothing counts only two minutes after the versions were made, it is looked
// again an hour later, when what was carried elsewhere has come home, and again just before the end; and whatever a look finds makes the
// time begin anew.
//
// What it promises:
//
//  1. Everything opens at every moment, on every server, whoever writes meanwhile and wherever a worker dies, and in the end without the
//     versions before: TestRotation, TestRotationModel, TestKilledSoak, TestWrittenMeanwhile, TestHeldRowIsNotWaitedFor.
//  2. Nothing that is under an older version is overlooked, also what another server sealed under it or carried for a while:
//     TestOthersSealUnderTheOldVersion. Every column that holds such values is gone over: server.TestEveryColumnIsKnown,
//     server.TestRotationReachesEverything; by a server that knows them all: TestOlderServersLeaveIt.
//  3. A value that does not open stays as it is, stops no other, opens an incident, and keeps the version that it may be under from its end; but
//     what is damaged inside is not looked at: TestDamagedValue, TestDamageInside. It keeps neither earlier rotations nor later ones from
//     theirs: TestDamageKeepsNoOthers, server.TestDamagedSettingsStopNoRotation.
//  4. A backup of the database of before opens with the key store of today for as long as Config.Kept says: TestBackupOpens. Who rotates
//     again meanwhile need not wait: TestRotatedAgainWhileKept. That nothing needs the versions before is said in the key store too: a
//     row that was forged, or restored, ends none of them early, and the operator is told: TestRowAloneEndsNoKey. Damage is called that:
//     TestDamagedNoteIsCalledThat.
//  5. How far it is, is in the database; one works for an organisation at a time, and whoever goes on, goes on from there:
//     TestKilledSoak, TestOneWorker, TestClaimedOnce, TestTakenOverByAServerThatIsLate. One that was suspended says nothing in the key store
//     of what is another's: TestSuspendedWorkerSaysNothing.
//  6. What it does is in the organisation's log, and moves no epoch: TestRotation.
//  7. Keys are rotated by schedule, each organisation's at an instant of its own, and one's fault is no other's: TestSchedule.
//     A server whose clock is not the database's does nothing: server.TestWrongClockEndsNothing.
//  8. Nobody but the operator rotates: TestOnlyTheOperator. What was destroyed on purpose stays so, and is not taken for damage:
//     TestShreddedStaysShredded, TestShreddedOnTheWay. Runs that have ended are kept for two years: TestRunsAreForgotten.
//
// What it does not promise: that a key which a thief has is of no use to him. He opens what he copied. And a row that is put back from
// before, when the versions before have been destroyed, opens no more.
package rotation
