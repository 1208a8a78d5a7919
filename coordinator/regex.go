package coordinator

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
)

// resolvedRegex is what a subscribed expression stood for when it was last looked at.
type resolvedRegex struct {
	topics []string // sorted
	at     int64    // ms, of the resolution
	// version of the tenant's topics that it was resolved with; 0 at a new owner.
	version uint64
}

// maxRegexProgram bounds the compiled expression, in instructions: matching a name
// takes time in proportion to it.
const maxRegexProgram = 4096

// compileTopicRegex compiles an expression in RE2's syntax (as Kafka's server does) that
// has to match a whole name.
func compileTopicRegex(expr string) (*regexp.Regexp, error) {
	if len(expr) > maxName {
		return nil, fmt.Errorf("longer than %d bytes", maxName)
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	if len(program.Inst) > maxRegexProgram {
		return nil, fmt.Errorf("too large: %d instructions, at most %d", len(program.Inst), maxRegexProgram)
	}
	return regexp.Compile(`\A(?:` + expr + `)\z`)
}

// resolveRegexes matches expressions with the tenant's topics. It runs outside of the
// shard, as it takes time. Expressions that do not compile stand for nothing: they
// were refused when they came.
func (c *Coordinator) resolveRegexes(caller Caller, exprs []string) map[string]*resolvedRegex {
	version := c.topicVersion(caller.Tenant)
	now := c.clock.Now().UnixMilli()
	out := make(map[string]*resolvedRegex, len(exprs))
	compiled := make([]*regexp.Regexp, len(exprs))
	for i, expr := range exprs {
		out[expr] = &resolvedRegex{at: now, version: version}
		if re, err := compileTopicRegex(expr); err == nil {
			compiled[i] = re
		}
	}
	size := 0
	c.directory.TopicNames(caller.Tenant, func(name string) bool {
		for i, expr := range exprs {
			if compiled[i] != nil && compiled[i].MatchString(name) && (caller.Visible == nil || caller.Visible(name)) {
				out[expr].topics = append(out[expr].topics, name)
				size += len(name)
			}
		}
		// What does not fit into a record cannot be subscribed to.
		return size < c.config.MaxRecordBytes/2
	})
	for _, r := range out {
		slices.Sort(r.topics)
	}
	return out
}

// unresolved lists the expressions that have to be resolved before the heartbeat is
// taken: those that are new, and all of them if the tenant's topics have changed since,
// at most every RegexInterval.
func (m *machine) unresolved(r *consumerBeat) []string {
	if r.epoch < 0 {
		return nil
	}
	var c *consumerGroup
	if g := m.groups[r.key]; g != nil {
		c = g.consumer
	}
	expr := r.regex
	if expr == nil && c != nil && c.members[r.memberID] != nil {
		expr = c.members[r.memberID].regex
	}
	var exprs []string
	if expr != nil && *expr != "" && r.badRegex == nil && (c == nil || c.regexes[*expr] == nil) {
		exprs = append(exprs, *expr)
	}
	if c == nil || len(c.regexes) == 0 {
		return exprs
	}
	version := m.topics.version(r.key.tenant)
	for expr, known := range c.regexes {
		if known.version != version && (known.version == 0 || m.now >= known.at+m.config.RegexInterval.Milliseconds()) {
			exprs = append(exprs, expr)
		}
	}
	return exprs
}

// resolve takes what expressions stand for, and tells whether that is news for any that
// is subscribed to. Needs the members to be up to date.
func (ch *change) resolve(resolved map[string]*resolvedRegex) bool {
	c := ch.g.consumer
	ch.prune()
	news := false
	for _, mb := range c.sorted() {
		if mb.regex == nil {
			continue
		}
		expr := *mb.regex
		r := resolved[expr]
		was := c.regexes[expr]
		if r == nil || was == r {
			continue
		}
		if was != nil && !ch.m.mayHold(ch.g.key.tenant, r.weight(expr)-was.weight(expr)) {
			continue // as it was, and looked at again
		}
		c.stands(expr, r)
		if was != nil && slices.Equal(was.topics, r.topics) {
			// Nothing to write: the times need not outlive this owner.
			continue
		}
		ch.regex(expr, r)
		news = news || was == nil && len(r.topics) > 0 || was != nil
	}
	return news
}
