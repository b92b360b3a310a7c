#!/usr/bin/perl
# The embedded back-ends: a maildir, synced before the reply, and discard.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use POSIX ();
use SmtpClient;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

sub conf
{
	my ($path, @more) = @_;

	return join "\n", 'listener front { listen 127.0.0.1:0; backend inner' . join('', map { "; $_" } @more) . ' }',
	    "backend inner { maildir $path }", '';
}

sub mails { my ($dir) = @_; return sort glob "$dir/new/*" }

# The only mail; it is taken away.
sub take_mail
{
	my ($dir) = @_;
	my @files = mails($dir);

	return "there are " . @files . " mails" unless @files == 1;
	my $text = read_file($files[0]);
	unlink $files[0];
	return $text;
}

subtest 'what is written' => sub {
	my $proxy = TestProxy->start(conf('%d/md', 'received no'));
	my $dir = $proxy->dir . '/md';
	my $c = $proxy->client;
	my $head = "Return-Path: <sender\@example.net>\nDelivered-To: rcpt\@example.org\n";

	my $reply = $c->send_message(content => "Subject: a\r\n\r\none\r\n.two\r\n..\r\n");
	is($reply, 250, 'a message is taken');
	is($reply->text, '2.0.0 Ok: stored', 'the reply says what became of it');
	my ($file) = mails($dir);
	is((stat $file)[2] & 07777, 0600, 'its file is for the owner alone');
	is((stat _)[3], 1, 'and has one name');
	like($file, qr{/new/\d+\.M\d+P\d+Q\d+\.[^/:]+$}, 'the name is as the convention has it');
	is((stat "$dir/$_")[2] & 07777, 0700, "the folder $_ was made, for the owner alone") for '', 'new', 'cur', 'tmp';
	is(take_mail($dir), "${head}Subject: a\n\none\n.two\n..\n", 'line ends are LF, dots as they were');
	is($c->send_message(from => '', to => [ 'a@example.org', '"b c"@example.org' ], content => "\r\nx\r\n"), 250,
		'a bounce to two recipients');
	is(take_mail($dir), "Return-Path: <>\nDelivered-To: a\@example.org\nDelivered-To: \"b c\"\@example.org\n\nx\n",
		'is one file that names both');
	for my $case ([ 'no octet', '' ], [ 'no header', "\r\nbody\r\n" ], [ 'no body', "Subject: x\r\n" ],
		[ '8-bit and NUL', "Subject: \xfc\0\xff\r\n\r\n\xc3\xa4\0\r\n" ],
		[ 'a line of 1 MiB', "\r\n" . 'x' x 1048576 . "\r\n" ],
		[ 'empty lines only', "\r\n" x 100_000 ],
		[ '5 MiB', "Subject: big\r\n\r\n" . "0123456789abcdefghijklmnopqrstuvwxyz\r\n" x 137_971 ],
		map { [ "$_ octets around a buffer", "\r\n" . ('x' x 62 . "\r\n") x 1023 . 'y' x ($_ - 65474 - 2) . "\r\n" ] }
		    65533 .. 65539)
	{
		my ($name, $content) = @$case;

		is($c->send_message(content => $content), 250, "$name: taken");
		ok(take_mail($dir) eq $head . $content =~ s/\r\n/\n/gr, "$name: and kept");
	}
	is(join(' ', glob "$dir/tmp/*"), '', 'nothing is left in tmp');
};

subtest 'a Received line' => sub {
	my $proxy = TestProxy->start(conf('%d/md'));

	is($proxy->client->send_message(content => "Subject: a\r\n\r\nx\r\n"), 250, 'a message is taken');
	my $text = take_mail($proxy->dir . '/md');
	like($text, qr/\AReturn-Path: .*\nDelivered-To: .*\nReceived: from client\.example .*\n(?:\s.*\n)*Subject: a\n\nx\n\z/,
		'stands below the delivery lines');
	unlike($text, qr/\r/, 'and has no CR');
};

subtest 'many at once' => sub {
	my $proxy = TestProxy->start(conf('%d/md') . "workers 3\n");
	my @pids;

	for my $n (1 .. 6) {
		my $pid = fork // die "fork: $!";
		if ($pid == 0) {
			my $ok = eval {
				my $c = $proxy->client;
				my @codes = map { $c->send_message(content => "Subject: m$n-$_-end\r\n\r\n" . "$n\r\n" x ($_ * 2000),
					pipeline => 1) + 0 } 1 .. 20;
				!grep { $_ != 250 } @codes;
			};
			POSIX::_exit($ok ? 0 : 1);
		}
		push @pids, $pid;
	}
	my $failed = grep { waitpid $_, 0; $? != 0 } @pids;
	is($failed, 0, 'six clients deliver twenty each');
	my %seen;
	for my $file (mails($proxy->dir . '/md')) {
		my ($id, $n, $i) = read_file($file) =~ /^Subject: (m(\d+)-(\d+)-end)$/m;
		my $lines = () = read_file($file) =~ /^\Q$n\E$/mg;
		$seen{$id}++ if $lines == $i * 2000;
	}
	is(scalar keys %seen, 120, 'all are there, each once and whole');
};

subtest 'a maildir that cannot be used' => sub {
	my $proxy = TestProxy->start(conf('%d/no/such/md'));
	my $reply = $proxy->client->send_message;

	is($reply, 451, 'its folder is missing: the front must keep the message');
	is($reply->text, '4.3.0 the message could not be stored, try again later', 'and is told so');
	ok($proxy->wait_log(qr{ backend backend=inner err="maildir \S+/no/such/md: .*No such file or directory"}),
		'the log says why');
	ok($proxy->wait_log(qr/ msg .*verdict=tempfail code=451 /), 'the summary line says what became of it');
	mkdir $proxy->dir . "/$_" for 'no', 'no/such';
	$proxy->give_away;
	chmod 0777, $proxy->dir . '/no/such';
	is($proxy->client->send_message, 250, 'when it is there, mail passes');
	my $dir = $proxy->dir . '/no/such/md';
	rename "$dir/new", "$dir/old";
	write_file("$dir/new", '');
	is($proxy->client->send_message, 451, 'a file in place of a folder: 451');
	is(join(' ', glob "$dir/tmp/*"), '', 'nothing half is left');
	SKIP: {
		skip 'root may write anywhere', 1 unless is_root();
		my $other = TestProxy->start(conf('%d/ro/md'), folders => ['ro']);
		chown 0, 0, $other->dir . '/ro';
		chmod 0755, $other->dir . '/ro';
		is($other->client->send_message, 451, 'not writable: 451');
	}
};

subtest 'a maildir on a full disk' => sub {
	plan skip_all => 'needs root, to mount a small file system' unless is_root();
	my $dir = temp_dir();
	system('mount', '-t', 'tmpfs', '-o', 'size=1m,mode=0777', 'postern-test', "$dir") == 0
	    or plan skip_all => 'mount is not allowed here';
	my $proxy = TestProxy->start(conf("$dir/md"));
	my $c = $proxy->client;

	is($c->send_message, 250, 'a small message is taken');
	is($c->send_message(content => "\r\n" . "0123456789\r\n" x 200_000), 451, 'one that does not fit is not');
	is(scalar(() = mails("$dir/md")), 1, 'nothing of it is delivered');
	is(join(' ', glob "$dir/md/tmp/*"), '', 'nor left behind');
	is($c->send_message, 250, 'small ones go on');
	$proxy->stop;
	system 'umount', '-l', "$dir";
};

subtest 'discard' => sub {
	my $proxy = TestProxy->start("listener front { listen 127.0.0.1:0; backend inner }\nbackend inner { discard yes }\n");
	my $reply = $proxy->client->send_message;

	is($reply, 250, 'everything is taken');
	is($reply->text, '2.0.0 Ok: discarded', 'and the reply says what that means');
	my $line = $proxy->wait_summary;
	is($line->{backend}, 'inner', 'the summary line names the back-end');
	is($line->{code}, 250, 'and the reply');
};

done_testing;
