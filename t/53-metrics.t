#!/usr/bin/perl
# What /metrics counts is what was really sent; its text is right for every reader; and the page, the alert rules
# and the dashboard speak of metrics that are there.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use Certs;
use HttpClient;
use JSON::PP ();
use Metrics;
use POSIX ();
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my $health = "health { listen 127.0.0.1:0 }\n";
my %was;	# a page of each sort of proxy, for promtool

sub page { my ($proxy) = @_; return HttpClient::get($proxy->health_addr, '/metrics')->{body} }
sub metrics { my ($proxy) = @_; return Metrics->parse(page($proxy)) }

# Waits until a value is what it should be: a worker counts a moment after its client has the reply.
sub counts
{
	my ($proxy, $wanted, $name, @label) = @_;

	wait_until { (metrics($proxy)->value($name, @label) // '') eq $wanted } 5;
	is(metrics($proxy)->value($name, @label), $wanted, "$name @label is $wanted");
	return;
}

# The same of a label's words that are not 0.
sub words
{
	my ($proxy, $wanted, $name, $word, @label) = @_;
	my $json = JSON::PP->new->canonical;
	my $got = sub { return $json->encode(metrics($proxy)->by($name, $word, @label)) };

	wait_until { $got->() eq $json->encode($wanted) } 5;
	is($got->(), $json->encode($wanted), "$name by $word @label");
	return;
}

# ---- the reader ------------------------------------------------------------------------------

subtest 'what reads the pages here is strict' => sub {
	my $head = "# HELP a_total x\n# TYPE a_total counter\n";
	my $h = "# HELP h x\n# TYPE h histogram\n";
	my @wrong = (
		[ 'no end of the last line', "${head}a_total 1" ],
		[ 'a sample without HELP', "a_total 1\n" ],
		[ 'a sample without TYPE', "# HELP a x\na 1\n" ],
		[ 'another family', "${head}b_total 1\n" ],
		[ 'a sample twice', "${head}a_total{x=\"1\"} 1\na_total{x=\"1\"} 2\n" ],
		[ 'a counter without _total', "# HELP a x\n# TYPE a counter\n" ],
		[ 'a gauge with _total', "# HELP a_total x\n# TYPE a_total gauge\n" ],
		[ 'a label without quotes', "${head}a_total{x=1} 1\n" ],
		[ 'a quote that is not escaped', "${head}a_total{x=\"a\"b\"} 1\n" ],
		[ 'an escape that is none', "${head}a_total{x=\"\\t\"} 1\n" ],
		[ 'a label twice', "${head}a_total{x=\"a\",x=\"b\"} 1\n" ],
		[ 'no number', "${head}a_total one\n" ],
		[ 'a counter below 0', "${head}a_total -1\n" ],
		[ 'what is not UTF-8', "${head}a_total{x=\"\xff\"} 1\n" ],
		[ 'counts that fall', "${h}h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n" ],
		[ 'bounds that fall', "${h}h_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n" ],
		[ 'no +Inf', "${h}h_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n" ],
		[ 'another count', "${h}h_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n" ],
		[ 'no sum', "${h}h_bucket{le=\"+Inf\"} 1\nh_count 1\n" ],
	);

	for my $case (@wrong) {
		ok(!eval { Metrics->parse($case->[1]); 1 }, "$case->[0] is refused");
	}
	my $m = Metrics->parse("${head}a_total{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 12\n");
	is($m->value('a_total', x => "a\"b\\c\nd", y => ''), 12, 'and labels are read as they were meant');
};

# ---- mail ------------------------------------------------------------------------------------

subtest 'transactions, messages and deliveries' => sub {
	my $sink = SmtpSink->start(
		rcpt => [ ('250 ok') x 3, '550 5.1.1 unknown', '250 ok' ],
		final => [ ('250 ok') x 3, '550 5.7.1 no', '451 4.7.1 later', 'close', '250 ok' ]);
	my $proxy = TestProxy->start(<<"CONF");
workers 2
$health
listener front { listen 127.0.0.1:0; backend inner; max_hops 3 }
listener side  { listen 127.0.0.1:0; backend none }
backend inner { hosts @{[ $sink->addr ]} }
backend none { discard yes }
CONF
	my $content = "Subject: x\r\n\r\n" . 'x' x 986 . "\r\n";
	my $sessions = 0;
	my $send = sub { $sessions++; return $proxy->client('front')->send_message(content => $content, @_) };

	is(length $content, 1002, '(a message of 1002 octets)');
	is($send->(), 250, 'three messages pass') for 1 .. 3;
	is($send->(), 550, 'one recipient is refused');
	is($send->(), 550, 'one message is refused');
	is($send->(), 451, 'one is put off');
	is($send->(), 451, 'the connection ends behind one');
	is($send->(content => "Received: x\r\n" x 4 . $content), 554, 'one is in a loop');
	is($send->(content => "a\nb\rc\r\n\r\n"), 250, 'one has bare newlines');
	my $c = $proxy->client('front');
	$sessions++;
	$c->ehlo;
	$c->mail('a@example.net');
	is($c->rset, 250, 'one is abandoned');
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	$c->close;
	is($proxy->client('side')->send_message, 250, 'one passes on another listener');

	words($proxy, { pass => 4, reject => 3, tempfail => 2, abandoned => 2 }, 'postern_transactions_total', 'verdict',
		listener => 'front');
	words($proxy, { pass => 1 }, 'postern_transactions_total', 'verdict', listener => 'side');
	words($proxy, { '2xx' => 4, '4xx' => 1, '5xx' => 1, lost => 1 }, 'postern_delivery_replies_total', 'class',
		backend => 'inner');
	words($proxy, { '2xx' => 1 }, 'postern_delivery_replies_total', 'class', backend => 'none');
	counts($proxy, 8, 'postern_messages_received_total', listener => 'front');
	counts($proxy, 7 * 1002 + 4 * 13 + 10, 'postern_received_bytes_total', listener => 'front');
	counts($proxy, 1, 'postern_loops_total', listener => 'front');
	counts($proxy, 2, 'postern_bare_newlines_total', listener => 'front');
	# The one in the middle of whose envelope we closed, and the one whose recipient was refused.
	counts($proxy, 2, 'postern_front_gone_total', listener => 'front');
	counts($proxy, $sessions, 'postern_sessions_opened_total', listener => 'front');
	counts($proxy, 0, 'postern_sessions_active', listener => 'front');
	counts($proxy, $sessions, 'postern_session_duration_seconds_count', listener => 'front');
	counts($proxy, 8, "postern_${_}_duration_seconds_count", listener => 'front') for qw(receive message);
	counts($proxy, 7, 'postern_chain_duration_seconds_count', listener => 'front');
	counts($proxy, 7, 'postern_deliver_duration_seconds_count', backend => 'inner');
	counts($proxy, 1, 'postern_backend_up', backend => 'inner', host => $sink->addr);
	my @summaries = $proxy->summaries;
	my %verdict;
	$verdict{ $_->{verdict} }++ for grep { $_->{listener} eq 'front' } @summaries;
	is_deeply(metrics($proxy)->by('postern_transactions_total', 'verdict', listener => 'front'), \%verdict,
		'the log has the same verdicts');
	$was{mail} = page($proxy);
};

subtest 'what is under way' => sub {
	my $sink = SmtpSink->start;
	my $proxy = TestProxy->start(<<"CONF");
workers 2
spool { directory %d/s; inline 64K }
$health
listener front { listen 127.0.0.1:0; backend inner }
backend inner { hosts @{[ $sink->addr ]}; max_connections 2 }
CONF
	my @c = map { my $c = $proxy->client; $c->ehlo; $c } 1 .. 3;

	counts($proxy, 3, 'postern_sessions_active', listener => 'front');
	counts($proxy, 3, 'postern_connections_active');
	$_->mail('a@example.net') for @c[ 0, 1 ];
	$_->rcpt('b@example.org') for @c[ 0, 1 ];
	words($proxy, { used => 2 }, 'postern_backend_connections', 'state', backend => 'inner');
	counts($proxy, 2, 'postern_backend_connections_max', backend => 'inner');
	$_->data for @c[ 0, 1 ];
	my $large = ('x' x 998 . "\r\n") x 200;
	$c[0]->send('x' x 998 . "\r\n");
	$c[1]->send($large);
	words($proxy, { memory => 1000, file => 200000 }, 'postern_spool_bytes', 'where');
	$_->send("\r\n.\r\n") for @c[ 0, 1 ];
	is($_->read_reply, 250, 'both pass') for @c[ 0, 1 ];
	words($proxy, {}, 'postern_spool_bytes', 'where');
	words($proxy, { idle => 2 }, 'postern_backend_connections', 'state', backend => 'inner');
	$_->quit for @c;
	counts($proxy, 0, 'postern_connections_active');
};

subtest 'filters' => sub {
	my $proxy = TestProxy->start(<<"CONF");
workers 2
$health
dummy quick { }
dummy late { wait 20s; timeout 100ms; on_failure tempfail }
dummy open { wait 20s; timeout 100ms; on_failure pass }
dummy slow { wait 20s }
dummy picky { only_sender \@nobody.example }
dummy wary { skip_recipient ann\@example.org }
rule { recipient ann\@example.org; chain quick picky wary }
rule { recipient late\@example.org; chain quick late }
rule { recipient open\@example.org; chain open quick }
rule { recipient slow\@example.org; chain slow }
default_chain quick
listener front { listen 127.0.0.1:0; backend inner }
backend inner { discard yes }
CONF
	my $send = sub { return $proxy->client->send_message(to => "$_[0]\@example.org") };

	is($send->('ann'), 250, 'passes the quick one') for 1 .. 2;
	is($send->('late'), 451, 'one fails, and its on_failure answers');
	is($send->('open'), 250, 'also when that is pass');
	words($proxy, { pass => 4 }, 'postern_filter_calls_total', 'verdict', filter => 'quick');
	words($proxy, { tempfail => 1 }, 'postern_filter_calls_total', 'verdict', filter => 'late');
	words($proxy, { pass => 1 }, 'postern_filter_calls_total', 'verdict', filter => 'open');
	counts($proxy, $_->[1], 'postern_filter_failures_total', filter => $_->[0]) for [ quick => 0 ], [ late => 1 ], [ open => 1 ];
	counts($proxy, $_->[1], 'postern_filter_timeouts_total', filter => $_->[0]) for [ quick => 0 ], [ late => 1 ];
	counts($proxy, $_->[1], 'postern_filter_skipped_total', filter => $_->[0]) for [ quick => 0 ], [ picky => 2 ], [ wary => 2 ];
	words($proxy, {}, 'postern_filter_calls_total', 'verdict', filter => 'picky');
	counts($proxy, 0, 'postern_filter_running', filter => 'picky');
	counts($proxy, 4, 'postern_filter_duration_seconds_count', filter => 'quick');
	counts($proxy, 0, 'postern_filter_duration_seconds_bucket', filter => 'late', le => '0.050');
	cmp_ok(metrics($proxy)->value('postern_filter_duration_seconds_sum', filter => 'late'), '>=', 0.09, 'its time is counted');
	my $c = $proxy->client;
	$c->ehlo;
	$c->mail('a@example.net');
	$c->rcpt('slow@example.org');
	$c->data;
	$c->send("x\r\n.\r\n");
	counts($proxy, 1, 'postern_filter_running', filter => 'slow');
	$c->reset;
	counts($proxy, 0, 'postern_filter_running', filter => 'slow');
	counts($proxy, 1, 'postern_filter_cancelled_total', filter => 'slow');
	words($proxy, {}, 'postern_filter_calls_total', 'verdict', filter => 'slow');
	words($proxy, { pass => 3, tempfail => 1, abandoned => 1 }, 'postern_transactions_total', 'verdict');
	$was{filters} = page($proxy);
};

subtest 'who is turned away' => sub {
	my $proxy = TestProxy->start(<<"CONF");
$health
listener shut { listen 127.0.0.1:0; backend none; clients 192.0.2.1 }
listener one { listen 127.0.0.1:0; backend none; max_per_client 1 }
listener wait { listen 127.0.0.1:0; backend none; early_talker 20s }
backend none { discard yes }
CONF

	is(SmtpClient->new($proxy->addr('shut'))->read_reply, 554, 'a stranger') for 1 .. 3;
	my $first = $proxy->client('one');
	is(SmtpClient->new($proxy->addr('one'))->read_reply, 421, 'one too many') for 1 .. 2;
	my $hasty = SmtpClient->new($proxy->addr('wait'));
	$hasty->send("EHLO x\r\n");
	is($hasty->read_reply, 554, 'one who does not wait');
	words($proxy, { clients => 3, max_per_client => 2, early_talker => 1 }, 'postern_refused_total', 'reason');
	counts($proxy, 3, 'postern_sessions_opened_total', listener => 'shut');
};

# ---- back-ends and TLS -----------------------------------------------------------------------

subtest 'back-ends that fail' => sub {
	my $sink = SmtpSink->start;
	my $port = free_port();
	my $odd = 'a"b\\c';
	my $proxy = TestProxy->start(<<"CONF");
$health
listener front { listen 127.0.0.1:0; backend inner }
backend inner { hosts "unix:%d/a\\"b\\\\c" @{[ $sink->addr ]} 127.0.0.1:$port; probe_interval 1h }
CONF
	my %dir = (backend => 'inner', host => 'unix:' . $proxy->dir . "/$odd");

	counts($proxy, 0, 'postern_backend_up', %dir);
	counts($proxy, 1, 'postern_backend_up', backend => 'inner', host => $sink->addr);
	counts($proxy, 0, 'postern_backend_up', backend => 'inner', host => "127.0.0.1:$port");
	my $m = metrics($proxy);
	cmp_ok($m->value('postern_backend_connection_attempts_total', backend => 'inner'), '>=', 3, 'three were begun');
	cmp_ok($m->value('postern_backend_connection_failures_total', backend => 'inner'), '>=', 2, 'two have failed');
	is($m->value('postern_backend_connection_attempts_total', backend => 'inner')
		- $m->value('postern_backend_connection_failures_total', backend => 'inner'), 1, 'and one has not');
	$was{escapes} = page($proxy);
};

SKIP: {
	skip 'needs Net::SSLeay', 1 unless eval { require TlsOctets; require SinkTls };
	subtest 'TLS on both sides' => sub {
		my $certs = Certs->new;
		my ($cert, $key) = $certs->make('server');
		my $sink = SmtpSink->start(tls => { cert => $cert, key => $key });
		my $proxy = TestProxy->start(<<"CONF");
$health
listener front { listen 127.0.0.1:0; backend inner; tls { certificate $cert; key $key } }
listener hasty { listen 127.0.0.1:0; backend inner; implicit_tls yes; command_timeout 1s; tls { certificate $cert; key $key } }
backend inner { hosts @{[ $sink->addr ]}; tls required; probe_interval 1h }
backend stern { hosts @{[ $sink->addr ]}; tls verify; tls_ca /etc/ssl/certs/ca-certificates.crt; probe_interval 1h }
listener other { listen 127.0.0.1:0; backend stern }
CONF

		for (1 .. 2) {
			my $c = $proxy->client('front');
			$c->ehlo;
			$c->starttls(ca => $certs->ca);
			is($c->send_message, 250, 'mail passes through TLS');
		}
		my $c = $proxy->client('front');
		$c->ehlo;
		$c->command('STARTTLS');
		$c->send("this is no handshake\r\n");
		ok($c->wait_eof, 'one handshake fails');
		counts($proxy, 2, 'postern_tls_handshakes_total', side => 'front', name => 'front');
		counts($proxy, 1, 'postern_tls_handshake_failures_total', side => 'front', name => 'front');
		ok(SmtpClient->new($proxy->addr('hasty'))->wait_eof, 'one that does not begin is cut');
		counts($proxy, 1, 'postern_tls_handshake_failures_total', side => 'front', name => 'hasty');
		my $m = metrics($proxy);
		cmp_ok($m->value('postern_tls_handshakes_total', side => 'back', name => 'inner'), '>=', 1, 'TLS with the back-end');
		is($m->value('postern_tls_handshake_failures_total', side => 'back', name => 'inner'), 0, 'does not fail');
		cmp_ok($m->value('postern_tls_handshake_failures_total', side => 'back', name => 'stern'), '>=', 1,
			'unless the certificate must be good');
		is($m->value('postern_tls_handshakes_total', side => 'back', name => 'stern'), 0, 'and is not');
	};
}

# ---- the process, the log --------------------------------------------------------------------

subtest 'the process' => sub {
	my $begin = time;
	my $proxy = TestProxy->start("$health\nworkers 3\nlistener front { listen 127.0.0.1:0; backend none }\nbackend none { discard yes }\n",
		limit => '-n 500');
	my ($engine) = grep { (read_file("/proc/$_/comm") // '') =~ /engine/ } $proxy->children;
	my $m = metrics($proxy);
	my $near = sub { my ($got, $wanted, $by, $name) = @_; return cmp_ok(abs($got - $wanted), '<=', $by, "$name: $got") };
	my @fds = glob "/proc/$engine/fd/*";
	my ($pages) = (split ' ', read_file("/proc/$engine/statm"))[1];

	$near->($m->value('process_start_time_seconds'), $begin, 3 * $TestUtil::PATIENCE, 'it has just started');
	$near->($m->value('process_open_fds'), scalar @fds, 3, 'descriptors');
	is($m->value('process_max_fds'), 500, 'and how many there may be');
	$near->($m->value('process_resident_memory_bytes'), $pages * POSIX::sysconf(POSIX::_SC_PAGESIZE()), 4 << 20, 'memory');
	cmp_ok($m->value('process_virtual_memory_bytes'), '>', $m->value('process_resident_memory_bytes'), 'address space');
	cmp_ok($m->value('process_cpu_seconds_total'), '<', 5 * $TestUtil::PATIENCE, 'processor time');
	is($m->value('postern_workers'), 3, 'workers');
	is($m->value('postern_workers_stuck'), 0, 'none is stuck');
	is($m->value('postern_ready'), 1, 'it is ready');
	cmp_ok($m->value('postern_worker_heartbeat_age_seconds', worker => "w$_"), '<', 3 * $TestUtil::PATIENCE, "w$_ turns") for 0 .. 2;
	is($m->value('postern_build_info', version => `@{[ $proxy->program ]} -V` =~ s/^postern (.*)\n/$1/r), 1, 'its version');
	cmp_ok($m->value('postern_spool_free_bytes'), '>', 0, 'the spool has room');
};

subtest 'log lines that are lost' => sub {
	my ($port, $http) = (free_port(), free_port());
	my $proxy = bless { dir => temp_dir(), owner => $$, addrs => {}, finished => 1, first => "127.0.0.1:$port" }, 'TestProxy';

	$proxy->write_conf("health { listen 127.0.0.1:$http }\nlog { to /dev/full }\npid_file %d/pid\n"
		. "listener front { listen 127.0.0.1:$port; backend none }\nbackend none { discard yes }\n");
	is(system($proxy->program, '-c', $proxy->conf_file), 0, 'a daemon whose log has no room');
	is($proxy->client->send_message, 250, 'mail passes');
	ok(wait_until { Metrics->parse(HttpClient::get("127.0.0.1:$http", '/metrics')->{body})->value('postern_log_lines_lost_total') >= 3 },
		'its lines are counted');
	my $pid = read_file($proxy->dir . '/pid');
	kill 'TERM', $pid;
	ok((wait_until { !kill 0, $pid } 20), 'it stops');
};

# ---- the documents ---------------------------------------------------------------------------

my $postern = $ENV{POSTERN} // builddir() . '/postern';
my $printed = `'$postern' -T metrics`;
my $page = Metrics->parse($was{mail});
my %series = map { $_ => 1 } $page->series, 'up';

is(read_file(srcdir() . '/doc/metrics.md'), $printed, 'doc/metrics.md is what postern -T metrics prints');
is_deeply([ $printed =~ /^\| `(\w+)` \|/mg ], [ $page->families ], 'it has the metrics of the page, and no other');
for my $name ($page->families) {
	my ($type, $labels, $help) = $printed =~ /^\| `$name` \| (\w+) \| (.*?) \| (.*) \|$/m;

	is($type, $page->type_of($name), "$name has its type");
	like($help, qr/^\w.{3,}[^.]\z/, "$name has a sentence");
	for my $s (map { $_->samples($name) } map { Metrics->parse($_) } values %was) {
		my $got = join ', ', sort grep { $_ ne 'le' } keys %{ $s->{label} };
		next if $got eq join ', ', sort split /, /, $labels;
		fail("$name has the labels $labels") or diag "it has $got";
	}
}

# What a query asks for: words that look like ours, but for labels and what stands in quotes.
sub names { my ($query) = @_; return $query =~ s/"[^"]*"//gr =~ /\b((?:postern|process)_\w+|up(?=\{))/g }

my $rules = srcdir() . '/contrib/prometheus/postern.rules.yml';
my @alerts = split /^(?=[ ]+- alert:)/m, read_file($rules) =~ s/^[ ]*#.*\n//mgr;
shift @alerts;
cmp_ok(scalar @alerts, '>=', 15, 'there are alert rules');
for my $alert (@alerts) {
	my ($name) = $alert =~ /alert: (\w+)/;
	my ($expr) = $alert =~ /expr:\s*(?:>-\n)?((?s:.*?))\n\s+(?:for|labels):/;
	my @unknown = grep { !$series{$_} } names($expr);
	my ($said) = $alert =~ /description: >-\n((?s:.*))/;

	ok(scalar names($expr), "$name asks for something");
	is("@unknown", '', "$name asks for what there is");
	like($alert, qr/severity: (?:critical|warning)/, "$name has a severity");
	like($alert, qr/summary: \S/, "$name has a summary");
	cmp_ok(length($said =~ s/\s+/ /gr), '>', 100, "$name says what to do");
}

my $dashboard = JSON::PP->new->utf8->decode(read_file(srcdir() . '/contrib/grafana/postern.json'));
my @panels = @{ $dashboard->{panels} };
my @queries = map { $_->{expr} } map { @{ $_->{targets} // [] } } @panels;
my %id;
$id{ $_->{id} }++ for @panels;
is(scalar(grep { $_ != 1 } values %id), 0, 'each panel of the dashboard has an id of its own');
cmp_ok(scalar(grep { $_->{type} eq 'row' } @panels), '>=', 5, 'they stand in rows');
for my $panel (grep { $_->{type} ne 'row' } @panels) {
	my @unknown = grep { !$series{$_} } map { names($_->{expr}) } @{ $panel->{targets} };
	is("@unknown", '', "the panel \"$panel->{title}\" asks for what there is");
}
my %shown = map { $_ => 1 } map { names($_) } @queries;
my @hidden = grep { !$shown{$_} && !$shown{"${_}_bucket"} } $page->families;
is("@hidden", 'postern_workers postern_config_last_reload_successful process_virtual_memory_bytes', 'nearly every metric is in the dashboard');

# ---- promtool, Prometheus' own reader --------------------------------------------------------

SKIP: {
	skip 'promtool is not installed (Debian: prometheus)', 1 if system('command -v promtool >/dev/null 2>&1') != 0;
	subtest 'promtool' => sub {
		my $dir = temp_dir();
		my $says = sub { my ($command) = @_; my $out = `cd $dir && promtool $command 2>&1`; return $? == 0 ? '' : $out || 'failed' };

		for my $name (sort keys %was) {
			write_file("$dir/metrics", $was{$name});
			is($says->('check metrics <metrics'), '', "finds nothing to complain in a page ($name)");
		}
		write_file("$dir/postern.rules.yml", read_file($rules));
		is($says->('check rules postern.rules.yml'), '', 'nor in the alert rules');
		write_file("$dir/prometheus.yml", read_file(srcdir() . '/contrib/prometheus/prometheus.yml'));
		is($says->('check config prometheus.yml'), '', 'nor in the scrape configuration');
		# Each query of the dashboard as a rule, with Grafana's own words filled in.
		my $n = 0;
		write_file("$dir/queries.yml", "groups:\n- name: q\n  rules:\n" . join '', map {
			my $q = s/\$__rate_interval/5m/gr =~ s/\$instance/.*/gr =~ s/'/''/gr;
			sprintf "  - record: q%d\n    expr: '%s'\n", ++$n, $q;
		} @queries);
		cmp_ok($n, '>=', 30, 'the dashboard has queries');
		is($says->('check rules queries.yml'), '', 'and each parses');
		write_file("$dir/test.yml", join '', <DATA>);
		is($says->('test rules test.yml'), '', 'alerts fire when they should, and not else');
	};
}

done_testing;

__DATA__
rule_files: [postern.rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - { series: 'up{job="postern",instance="a:1",site="x"}', values: '0x30' }
      - { series: 'postern_ready{job="postern",instance="b:1",site="x"}', values: '0x30' }
      - { series: 'postern_ready{job="postern",instance="c:1",site="x"}', values: '1x30' }
      - { series: 'postern_workers_stuck{job="postern",instance="b:1",site="x"}', values: '1x30' }
      - { series: 'process_start_time_seconds{job="postern",instance="b:1",site="x"}', values: '100x18 200x4 300x4 400x4' }
      - { series: 'process_start_time_seconds{job="postern",instance="c:1",site="x"}', values: '100x20 200x10' }
      - { series: 'postern_backend_up{job="postern",instance="b:1",backend="inner",host="h:1",site="x"}', values: '0x30' }
      - { series: 'postern_backend_up{job="postern",instance="b:1",backend="inner",host="h:2",site="x"}', values: '1x30' }
      - { series: 'postern_backend_up{job="postern",instance="b:1",backend="other",host="h:3",site="x"}', values: '0x30' }
      - { series: 'postern_backend_waiting{job="postern",instance="b:1",backend="inner",site="x"}', values: '3x30' }
      - { series: 'postern_backend_connections{job="postern",instance="b:1",backend="inner",state="used",site="x"}', values: '20x30' }
      - { series: 'postern_backend_connections{job="postern",instance="b:1",backend="inner",state="idle",site="x"}', values: '0x30' }
      - { series: 'postern_backend_connections_max{job="postern",instance="b:1",backend="inner",site="x"}', values: '20x30' }
      - { series: 'postern_transactions_total{job="postern",instance="b:1",listener="front",verdict="pass",site="x"}', values: '0x30' }
      - { series: 'postern_transactions_total{job="postern",instance="b:1",listener="front",verdict="tempfail",site="x"}', values: '0+60x30' }
      - { series: 'postern_transactions_total{job="postern",instance="c:1",listener="front",verdict="pass",site="x"}', values: '0+60x30' }
      - { series: 'postern_transactions_total{job="postern",instance="c:1",listener="front",verdict="tempfail",site="x"}', values: '0+6x30' }
      - { series: 'postern_filter_failures_total{job="postern",instance="b:1",filter="virus",site="x"}', values: '0+6x30' }
      - { series: 'postern_filter_breaker_open{job="postern",instance="b:1",filter="virus",site="x"}', values: '1x30' }
      - { series: 'postern_filter_breaker_open{job="postern",instance="b:1",filter="spam",site="x"}', values: '0 1 0 0x27' }
      - { series: 'postern_filter_calls_total{job="postern",instance="b:1",filter="virus",verdict="pass",site="x"}', values: '0+54x30' }
      - { series: 'postern_filter_calls_total{job="postern",instance="b:1",filter="virus",verdict="tempfail",site="x"}', values: '0+6x30' }
      - { series: 'postern_filter_duration_seconds_bucket{job="postern",instance="b:1",filter="virus",le="10",site="x"}', values: '0+8x30' }
      - { series: 'postern_filter_duration_seconds_bucket{job="postern",instance="b:1",filter="virus",le="30",site="x"}', values: '0+60x30' }
      - { series: 'postern_filter_duration_seconds_bucket{job="postern",instance="b:1",filter="virus",le="+Inf",site="x"}', values: '0+60x30' }
      - { series: 'postern_spool_free_bytes{job="postern",instance="b:1",site="x"}', values: '0x30' }
      - { series: 'postern_spool_free_bytes{job="postern",instance="c:1",site="x"}', values: '1e9x30' }
    promql_expr_test:
      - expr: 'count by (alertname, instance, backend, host) (ALERTS{alertstate="firing"})'
        eval_time: 28m
        exp_samples:
          - { labels: '{alertname="PosternDown",instance="a:1"}', value: 1 }
          - { labels: '{alertname="PosternNotReady",instance="b:1"}', value: 1 }
          - { labels: '{alertname="PosternWorkerStuck",instance="b:1"}', value: 1 }
          - { labels: '{alertname="PosternRestarts",instance="b:1"}', value: 1 }
          - { labels: '{alertname="PosternBackendDown",instance="b:1",backend="other"}', value: 1 }
          - { labels: '{alertname="PosternBackendHostDown",instance="b:1",backend="inner",host="h:1"}', value: 1 }
          - { labels: '{alertname="PosternBackendHostDown",instance="b:1",backend="other",host="h:3"}', value: 1 }
          - { labels: '{alertname="PosternBackendBusy",instance="b:1",backend="inner"}', value: 1 }
          - { labels: '{alertname="PosternAllTempfail",instance="b:1"}', value: 1 }
          - { labels: '{alertname="PosternManyTempfail",instance="b:1"}', value: 1 }
          - { labels: '{alertname="PosternFilterFails",instance="b:1"}', value: 1 }
          - { labels: '{alertname="PosternFilterOff",instance="b:1"}', value: 1 }
          - { labels: '{alertname="PosternFilterSlow",instance="b:1"}', value: 1 }
          - { labels: '{alertname="PosternSpoolFull",instance="b:1"}', value: 1 }
