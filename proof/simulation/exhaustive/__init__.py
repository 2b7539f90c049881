"""An exhaustive model checker: every message order of single-decree Paxos, over the real classes.

Two proposers, three acceptors, and a network that is the *set* of all messages ever sent. Any of
them may be delivered next, again, or never: order, loss and duplication in one rule. A proposer may
give up and begin its next ballot at any time; an acceptor may crash and restart from its records at
any time. In every state reached, at most one value may be chosen, judged from what the acceptors
put into their records: a phase 2 quorum of them accepted in one ballot. `SynodLearner`, given the
same acceptances, must find the same ballots chosen.

Reduced without losing behaviour: a delivery that changes nothing is no new state; Nacks are not
delivered, since all they may cause, a higher ballot, can happen at any time anyway; an acceptor
handles a message, commits and sends in one step, since a crash in between is a crash before (the
message comes again or never) or after (the answers never come).

Then rules of the algorithm are removed one at a time, and a shortest counter-example must be found:
a checker that finds nothing in a broken algorithm would prove nothing about a sound one.

    python -m proof.simulation.exhaustive       exit code 0 if and only if everything is as expected

Sources: Lamport, "Paxos Made Simple" (2001), section 2; Howard, "Distributed Consensus Revised"
(2019), chapter 4, for the quorums. Breadth first search of explicit states as in TLC (Yu,
Manolios, Lamport, "Model Checking TLA+ Specifications", 1999).
"""
