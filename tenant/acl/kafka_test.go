package acl

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/braidstream/braid/internal/clients/authorizer"
)

// question is one that both authorizers are asked.
type question struct {
	who       Subject
	operation Operation
	kind      ResourceType
	name      string // "": on any resource of the type
}

// draw makes random rules and questions whose few names, prefixes, principals and
// hosts meet often.
type draw struct{ *rand.Rand }

func pick[T any](d draw, list ...T) T { return list[d.IntN(len(list))] }

// name draws none that begins with *: Kafka (4.3.1) does not apply rules about *
// to such names, so that a denial of everything does not hold for a group *a.
// Ours does.
func (d draw) name(kind ResourceType) string {
	if kind == Cluster {
		return ClusterName
	}
	return pick(d, "a", "ab", "abc", "abcd", "abd", "b", "ba", "bab", "c", "hardcode", "a.b", "a-")
}

func (d draw) kind() ResourceType {
	return pick(d, Topic, Topic, Topic, Group, Cluster, TransactionalID, User)
}
func (d draw) principal() string {
	return pick(d, "User:ann", "User:bob", "User:CN=ann,O=x", "Group:ann", "User:ann")
}
func (d draw) host() string         { return pick(d, "10.0.0.1", "10.0.0.2", "0:0:0:0:0:0:0:1") }
func (d draw) operation() Operation { return Read + Operation(d.IntN(int(TwoPhaseCommit-Read)+1)) }

func (d draw) rule() Binding {
	b := Binding{Type: d.kind(), Pattern: pick(d, Literal, Literal, Prefixed), Principal: pick(d, Everyone, d.principal()),
		Host: pick(d, Wildcard, Wildcard, d.host()), Operation: d.operation(), Permission: pick(d, Deny, Allow, Allow, Allow)}
	b.Name = d.name(b.Type)
	if d.IntN(5) == 0 {
		b.Operation = All
	}
	switch {
	case b.Pattern == Literal && d.IntN(4) == 0:
		b.Name = Wildcard
	case b.Pattern == Prefixed:
		b.Name = b.Name[:1+d.IntN(len(b.Name))]
	}
	return b
}

func (d draw) question() question {
	q := question{who: Subject{d.principal(), Host(d.host())}, operation: d.operation(), kind: d.kind()}
	if d.IntN(6) > 0 {
		q.name = d.name(q.kind)
	}
	return q
}

// TestDecisionsAreKafkas compares 10,000 random rule sets, each with several
// questions, with what Apache Kafka's own authorizer decides.
func TestDecisionsAreKafkas(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Log("the other run of the tests has the JVM")
		return
	}
	const sets, each = 10_000, 8
	seed := rand.Uint64()
	d := draw{rand.New(rand.NewPCG(seed, 1))}
	var input strings.Builder
	type asked struct {
		rules []Binding
		o     Options
		q     question
		ours  bool
	}
	var all []asked
	for range sets {
		o := Options{Lenient: d.IntN(2) == 0}
		if d.IntN(4) == 0 {
			o.SuperUsers = []string{"User:root", "User:bob"}
		}
		fmt.Fprintf(&input, "R\t%s\t%v\n", strings.Join(o.SuperUsers, ";"), o.Lenient)
		rules := make([]Binding, d.IntN(14))
		for i := range rules {
			rules[i] = d.rule()
		}
		slices.SortFunc(rules, Compare)
		rules = slices.Compact(rules)
		for _, b := range rules {
			fmt.Fprintf(&input, "A\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.Type, b.Name, b.Pattern, b.Principal, b.Host, b.Operation, b.Permission)
		}
		x := Compile(rules, o)
		for range each {
			q := d.question()
			a := asked{rules: rules, o: o, q: q}
			if q.name == "" {
				a.ours = x.AllowedSomewhere(q.who, q.operation, q.kind)
				fmt.Fprintf(&input, "T\t%s\t%s\t%s\t%s\n", q.who.Principal, q.who.Host, q.operation, q.kind)
			} else {
				a.ours = x.Allowed(q.who, q.operation, q.kind, q.name)
				fmt.Fprintf(&input, "Q\t%s\t%s\t%s\t%s\t%s\n", q.who.Principal, q.who.Host, q.operation, q.kind, q.name)
			}
			all = append(all, a)
		}
	}
	theirs, err := authorizer.Ask(t.Context(), strings.NewReader(input.String()))
	if err != nil {
		t.Fatal(err)
	}
	if len(theirs) != len(all) {
		t.Fatalf("%d answers to %d questions", len(theirs), len(all))
	}
	allowed, differ := 0, 0
	for i, a := range all {
		if theirs[i] {
			allowed++
		}
		if a.ours == theirs[i] {
			continue
		}
		if differ++; differ <= 3 {
			t.Errorf("seed %d: %+v: ours %v, Kafka's %v\n%+v\n%v", seed, a.q, a.ours, theirs[i], a.o, a.rules)
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d answers differ", differ, len(all))
	}
	// Else the questions say nothing.
	if allowed < len(all)/10 || allowed > len(all)*9/10 {
		t.Errorf("%d of %d allowed", allowed, len(all))
	}
}
