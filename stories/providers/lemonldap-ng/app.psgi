# The portal, with what reaches its endpoints written down; server.py starts it and tells what that looks like.
use strict;
use warnings;
use Fcntl ':flock';
use JSON;
use Lemonldap::NG::Portal::Main;
use Lemonldap::NG::Portal::UserDB::Demo;
use Plack::Builder;
use Plack::Request;
use Time::HiRes qw(sleep time);

my $told   = decode_json($ENV{STORIES});
my $folder = $told->{folder};

%Lemonldap::NG::Portal::UserDB::Demo::demoAccounts =
  map { $_ => { uid => $_, cn => $told->{users}{$_}{name}, mail => $told->{users}{$_}{email} } }
  keys %{ $told->{users} };

my %endpoints = ('/oauth2/token' => 'token', '/oauth2/userinfo' => 'userinfo');
my @secrets   = qw(code code_verifier refresh_token access_token id_token);

# A line of a file that several processes write to.
sub note {
    my ($name, $entry) = @_;
    open(my $file, '>>', "$folder/$name.jsonl") or die "$folder/$name.jsonl: $!";
    flock($file, LOCK_EX);
    print $file encode_json($entry) . "\n";
    close($file);
}

sub secrets_of {
    my ($from) = @_;
    return { map { $_ => "$from->{$_}" } grep { defined $from->{$_} } @secrets };
}

sub milliseconds { return int(time() * 1000) }

sub waits {
    open(my $file, '<', "$folder/delay_ms") or return;
    sleep(<$file> / 1000);
}

my $recorded = sub {
    my ($portal) = @_;
    return sub {
        my ($env) = @_;
        my $endpoint = $endpoints{ $env->{PATH_INFO} } or return $portal->($env);
        my $start = milliseconds();
        my $form  = Plack::Request->new($env)->body_parameters;
        if (($form->{grant_type} // '') eq 'refresh_token') {
            $endpoint = 'token:refresh';
            waits();
        }
        my $answer = $portal->($env);
        note('forms', secrets_of($form));
        note('answers', secrets_of(decode_json(join '', @{ $answer->[2] })))
          if $endpoint =~ /^token/ and $answer->[0] == 200;
        note('requests', {
            endpoint => $endpoint, status => $answer->[0] + 0, fate => 'answered',
            start_ms => $start, end_ms => milliseconds(),
        });
        return $answer;
    };
};

my $portal = Lemonldap::NG::Portal::Main->run({}) or die 'the portal did not start';
print STDERR "ready $told->{issuer}\n";

builder {
    enable 'Static', path => sub { s{^/static/}{} }, root => '/usr/share/lemonldap-ng/portal/htdocs/static';
    enable $recorded;
    $portal;
};
