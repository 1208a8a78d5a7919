package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
)

func newOp(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "op",
		Short:   "Operations (moves, drains, failovers) under way and past",
		Example: "  braid op list\n  braid op watch 1m80gs9pqmac7",
	}
	group(cmd)
	cmd.AddCommand(newOpList(e), newOpWatch(e), newOpCancel(e))
	return cmd
}

func newOpList(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List operations, newest first",
		Example: "  braid op list -o json",
		Args:    noArguments,
		RunE:    ask(e, func(ctx context.Context, c *api.Client, _ []string) ([]api.Op, error) { return c.Ops(ctx) }, opTable),
	}
}

func opTable(w io.Writer, ops []api.Op) error {
	var rows [][]string
	for _, o := range ops {
		rows = append(rows, []string{o.ID, o.Kind, o.State, fmt.Sprintf("%d/%d", o.Done, o.Total),
			dash(opWhat(o)), dash(o.To), ago(o.Created), o.Message})
	}
	return table(w, []string{"ID", "KIND", "STATE", "TOPICS", "WHAT", "TO", "STARTED", "MESSAGE"}, rows)
}

// opWhat says in a few words what an operation is about.
func opWhat(o api.Op) string {
	if o.Cluster != "" {
		return o.Cluster
	}
	if len(o.Topics) > 3 {
		return strings.Join(o.Topics[:3], ",") + ",…"
	}
	return strings.Join(o.Topics, ",")
}

func newOpWatch(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "watch ID",
		Short:             "Follow an operation to its end",
		Example:           "  braid op watch 1m80gs9pqmac7",
		Args:              names(1, 1, "the id of an operation"),
		ValidArgsFunction: e.first(opIDs(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.client()
			if err != nil {
				return err
			}
			op, err := c.Op(cmd.Context(), args[0], 0)
			if err != nil {
				return err
			}
			return e.follow(cmd.Context(), c, op)
		},
	}
}

func newOpCancel(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "cancel ID",
		Short:             "Cancel an operation; what is not begun is left, what is committed stays, what has begun to seal is finished",
		Example:           "  braid op cancel 1m80gs9pqmac7",
		Args:              names(1, 1, "the id of an operation"),
		ValidArgsFunction: e.first(opIDs(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.client()
			if err != nil {
				return err
			}
			op, err := c.CancelOp(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return e.print(op, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "operation %s is being cancelled: braid op watch %s\n", op.ID, op.ID)
				return err
			})
		},
	}
}

func newFailover(e *env) *cobra.Command {
	var req api.OpRequest
	var dryRun, detach bool
	cmd := &cobra.Command{
		Use:   "failover CLUSTER",
		Short: "A cluster is gone: go on elsewhere",
		Long: `Continue the topics of a cluster that is gone on another one, as far as each topic's
guarantee allows: braid.guarantee=available goes on at once; ordered waits for the cluster's
return unless --force is given. --dry-run says first what it costs.`,
		Example: `  braid failover east --dry-run
  braid failover east --to west`,
		Args:              aCluster("the name of a cluster"),
		ValidArgsFunction: e.first(allClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Kind, req.Cluster = "failover", args[0]
			if err := checkClusterFlag("--to", req.To); err != nil {
				return err
			}
			if dryRun {
				return e.operate(cmd, req, dryRun, detach)
			}
			if err := e.warnCosts(cmd.Context(), req); err != nil {
				return err
			}
			if err := e.operate(cmd, req, dryRun, detach); err != nil {
				return err
			}
			return e.warnAnswers(cmd.Context(), req.Cluster)
		},
	}
	cmd.Flags().StringVar(&req.To, "to", "", "cluster to go on at (default: placement chooses)")
	cmd.Flags().BoolVar(&req.Force, "force", false, "also for topics whose guarantee it breaks")
	e.opFlags(cmd, &dryRun, &detach)
	e.completeFlag(cmd, "to", allClusters)
	return cmd
}

// warnCosts says on standard error what an operation is about to cost.
func (e *env) warnCosts(ctx context.Context, req api.OpRequest) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	plan, err := c.Plan(ctx, req)
	if err != nil {
		return err
	}
	return printCosts(e.err, plan.Costs)
}

// warnAnswers says so when a cluster that was just failed over answers after all.
func (e *env) warnAnswers(ctx context.Context, cluster string) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	cl, err := c.Cluster(ctx, cluster)
	if err != nil || cl.State != "failed" || cl.Health != "up" {
		return err
	}
	_, err = fmt.Fprintf(e.err, "%s answers; it is marked failed and takes no new spans; `braid failback %s` undoes that\n", cluster, cluster)
	return err
}

func newFailback(e *env) *cobra.Command {
	var req api.OpRequest
	var dryRun, detach bool
	cmd := &cobra.Command{
		Use:               "failback CLUSTER",
		Short:             "A cluster is back, or not drained after all: it is active, and topics that were failed over go home",
		Example:           "  braid failback east",
		Args:              aCluster("the name of a cluster"),
		ValidArgsFunction: e.first(allClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Kind, req.Cluster = "failback", args[0]
			return e.operate(cmd, req, dryRun, detach)
		},
	}
	e.opFlags(cmd, &dryRun, &detach)
	return cmd
}

// operate plans or starts an operation and follows it to its end.
func (e *env) operate(cmd *cobra.Command, req api.OpRequest, dryRun, detach bool) error {
	if err := checkClusterFlag("--to", req.To); err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	if dryRun {
		plan, err := c.Plan(cmd.Context(), req)
		if err != nil {
			return err
		}
		return e.print(plan, func(w io.Writer) error { return printPlan(w, plan) })
	}
	op, err := c.Submit(cmd.Context(), req)
	if err != nil {
		return err
	}
	if detach {
		return e.print(op, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "operation %s started: braid op watch %s\n", op.ID, op.ID)
			return err
		})
	}
	return e.follow(cmd.Context(), c, op)
}

func printPlan(w io.Writer, p api.Plan) error {
	if err := printMoves(w, p); err != nil {
		return err
	}
	if err := printKept(w, p.Kept); err != nil {
		return err
	}
	return printCosts(w, p.Costs)
}

// printMoves says what a plan does, and what that concerns.
func printMoves(w io.Writer, p api.Plan) error {
	if p.Refused != "" {
		if _, err := fmt.Fprintf(w, "would be refused: %s\n", oneLine(p.Refused)); err != nil {
			return err
		}
	}
	if p.Nothing {
		_, err := fmt.Fprintln(w, "nothing to do")
		return err
	}
	if p.Effect != "" {
		if _, err := fmt.Fprintln(w, p.Effect); err != nil {
			return err
		}
		if len(p.Moves) == 0 {
			_, err := fmt.Fprintln(w, "no topic is to be moved")
			return err
		}
	}
	if len(p.Moves) == 0 {
		return nil // it would be refused
	}
	var rows [][]string
	for _, m := range p.Moves {
		rows = append(rows, []string{m.Topic, count(int64(m.Partitions)), m.From, dash(m.To), m.Mode, unknownOr(m.Records, count), unknownOr(m.Bytes, bytesText), keptText(m), m.Note})
	}
	if err := table(w, []string{"TOPIC", "PARTITIONS", "FROM", "TO", "MODE", "RECORDS", "SIZE", "KEPT THERE UNTIL", "NOTE"}, rows); err != nil {
		return err
	}
	return printVolume(w, p)
}

// unknownOr writes a number that may not be known.
func unknownOr(n *int64, text func(int64) string) string {
	if n == nil {
		return "unknown"
	}
	return text(*n)
}

// keptText says until when a topic's records must be kept where they are.
func keptText(m api.PlanMove) string {
	switch {
	case m.KeptForever:
		return "deleted"
	case m.KeptUntil != nil:
		return m.KeptUntil.Local().Format("2006-01-02 15:04")
	}
	return "-"
}

// volume adds up what topics have of something, as far as it is known.
type volume struct {
	sum            int64
	known, unknown int // topics
}

func (v *volume) add(n *int64) {
	if n == nil {
		v.unknown++
		return
	}
	v.known++
	v.sum += *n
}

// text writes the sum, and never as a number what nobody has told.
func (v *volume) text(noun string, text func(int64) string) string {
	switch {
	case v.unknown == 0:
		return text(v.sum)
	case v.known == 0:
		return "an unknown number of " + noun
	}
	return fmt.Sprintf("at least %s (unknown of %s)", text(v.sum), plural(v.unknown, "topic", "topics"))
}

// printVolume says what a plan concerns in all.
func printVolume(w io.Writer, p api.Plan) error {
	var records, size volume
	var open int64
	var until time.Time
	forever := 0
	for _, m := range p.Moves {
		records.add(m.Records)
		size.add(m.Bytes)
		if m.OpenTransactions != nil && *m.OpenTransactions > 0 {
			open++
		}
		if m.KeptForever {
			forever++
		}
		if m.KeptUntil != nil && m.KeptUntil.After(until) {
			until = *m.KeptUntil
		}
	}
	lines := []string{fmt.Sprintf("volume: %s, %s; nothing is copied, they stay where they are",
		records.text("records", func(n int64) string { return plural(int(n), "record", "records") }), size.text("bytes", bytesText))}
	switch {
	case forever > 0:
		lines = append(lines, fmt.Sprintf("kept: %s until deleted: nothing in the retention lets go of what is there", plural(forever, "topic", "topics")))
	case !until.IsZero():
		lines = append(lines, "kept: until "+until.Local().Format("2006-01-02 15:04")+" at the latest, by retention")
	}
	if open > 0 && p.Kind != "failover" {
		lines = append(lines, fmt.Sprintf("transactions: open in %s; a move waits for their end, a minute at the longest, and holds new ones meanwhile", plural(int(open), "topic", "topics")))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

func printCosts(w io.Writer, costs []string) error {
	for _, c := range costs {
		if _, err := fmt.Fprintf(w, "cost: %s\n", oneLine(c)); err != nil {
			return err
		}
	}
	return nil
}

// follow shows an operation's progress until it ends, then its certificates.
func (e *env) follow(ctx context.Context, c *api.Client, op api.Op) error {
	bar := newProgress(e, op)
	for !op.Ended() {
		next, err := c.Op(ctx, op.ID, op.Revision)
		if err != nil {
			bar.stop()
			if ctx.Err() != nil {
				return fmt.Errorf("stopped watching; operation %s goes on (braid op watch %s)", op.ID, op.ID)
			}
			return err
		}
		op = next
		bar.show(op)
	}
	bar.stop()
	if err := e.print(op, func(w io.Writer) error {
		for _, cert := range op.Certificates {
			if err := printCertificate(w, cert); err != nil {
				return err
			}
		}
		text := op.State
		if op.Message != "" {
			text += ": " + oneLine(op.Message)
		}
		_, err := fmt.Fprintf(w, "%s %s %s\n", op.Kind, op.ID, text)
		return err
	}); err != nil {
		return err
	}
	if op.State != "done" {
		return &silentError{"operation " + op.State}
	}
	return nil
}

func certificateLine(c api.Certificate) string {
	var lost, duplicated, reordered, acknowledged, replayed, inPlace int64
	unread, unreported := 0, 0
	pause := "pause unknown"
	longest, idle := 0.0, 0
	add := func(sum *int64, n *int64) {
		if n != nil {
			*sum += *n
		}
	}
	for _, p := range c.Partitions {
		if p.Found == nil {
			unread++
		}
		add(&lost, p.Lost)
		add(&duplicated, p.Duplicated)
		add(&reordered, p.Reordered)
		if p.Acknowledged == nil {
			unreported++
		}
		add(&acknowledged, p.Acknowledged)
		replayed += p.Replayed
		inPlace += p.InPlace
		if p.PauseMs != nil && *p.PauseMs >= longest {
			longest = *p.PauseMs
			pause = fmt.Sprintf("longest pause %.0f ms", longest)
		}
		if p.Idle {
			idle++
		}
	}
	if idle > 0 && idle == len(c.Partitions) {
		pause = "idle: nobody waited"
	}
	what := fmt.Sprintf("%s lost, %s duplicated, %s reordered", count(lost), count(duplicated), count(reordered))
	switch {
	case unread == 0:
	case unread == len(c.Partitions) && lost+duplicated+reordered == 0:
		what = "lost, duplicated and reordered unverified: nothing was read"
	default:
		what += fmt.Sprintf(" as far as read (%s unverified)", plural(unread, "partition", "partitions"))
	}
	if replayed > 0 {
		what += "; " + plural(int(replayed), "stranded record", "stranded records") + " appended anew"
	}
	if inPlace > 0 {
		what += "; " + plural(int(inPlace), "stranded record", "stranded records") + " read in place"
	}
	acked := count(acknowledged) + " acknowledged"
	switch {
	case unreported == 0:
	case unreported == len(c.Partitions):
		acked = "acknowledged unverified: no gateway has reported"
	default:
		acked = fmt.Sprintf("%s as far as reported (%s unverified)", acked, plural(unreported, "partition", "partitions"))
	}
	line := fmt.Sprintf("%s %s, %s -> %s (%s): %s; %s, %s", c.Kind, c.Topic, c.From, c.To, c.Mode, c.Verdict, acked, what)
	if c.Kind != "return" {
		line += "; " + pause
	}
	if c.Return != "" {
		line += "; revised by return " + c.Return
	}
	if len(c.Failovers) > 0 {
		line += "; of failover " + strings.Join(c.Failovers, ", ")
	}
	return line + groupsInBrief(c)
}

// known shows a count, or that nothing was read that would tell it.
func known(n *int64) string {
	if n == nil {
		return "unverified"
	}
	return count(*n)
}

func printCertificate(w io.Writer, c api.Certificate) error {
	if _, err := fmt.Fprintf(w, "certificate: %s\n", certificateLine(c)); err != nil {
		return err
	}
	var rows [][]string
	for _, p := range c.Partitions {
		rows = append(rows, []string{fmt.Sprint(p.Partition), count(p.End), known(p.Acknowledged), known(p.Found),
			known(p.Lost), known(p.Duplicated), known(p.Reordered), pauseText(p), p.Verdict})
	}
	if err := table(w, []string{"PARTITION", "END", "ACKED", "FOUND", "LOST", "DUPLICATED", "REORDERED", "PAUSE MS", "VERDICT"}, rows); err != nil {
		return err
	}
	for _, p := range c.Partitions {
		for _, r := range p.Ranges {
			if _, err := fmt.Fprintf(w, "partition %d: [%s, %s) %s %s\n", p.Partition, count(r.From), count(r.To), r.What, r.Note); err != nil {
				return err
			}
		}
	}
	for _, l := range groupLines(c) {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	for _, l := range checkedLines(c) {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

// pauseText shows for how long appends waited; idle: none did.
func pauseText(p api.CertifiedRecord) string {
	switch {
	case p.PauseMs != nil:
		return fmt.Sprintf("%.1f", *p.PauseMs)
	case p.Idle:
		return "idle"
	}
	return "-"
}

// checkedLines says what was checked, the same text once, with the partitions it holds for.
func checkedLines(c api.Certificate) []string {
	var texts []string
	of := map[string][]int32{}
	for _, p := range c.Partitions {
		for _, how := range p.Checked {
			if of[how] == nil {
				texts = append(texts, how)
			}
			of[how] = append(of[how], p.Partition)
		}
	}
	var lines []string
	for _, how := range texts {
		head := "checked"
		text, later := strings.CutPrefix(how, "to come: ")
		if later {
			head = "to come"
		}
		lines = append(lines, head+", "+partitionList(of[how])+": "+text)
	}
	return lines
}

// partitionList names partitions, neighbours as a range.
func partitionList(ids []int32) string {
	ids = slices.Sorted(slices.Values(ids))
	noun := "partition "
	if len(ids) > 1 {
		noun = "partitions "
	}
	var parts []string
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		switch j - i {
		case 0:
			parts = append(parts, fmt.Sprint(ids[i]))
		case 1:
			parts = append(parts, fmt.Sprint(ids[i]), fmt.Sprint(ids[j]))
		default:
			parts = append(parts, fmt.Sprintf("%d to %d", ids[i], ids[j]))
		}
		i = j + 1
	}
	return noun + strings.Join(parts, ", ")
}
